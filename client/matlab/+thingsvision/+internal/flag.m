function value = flag(value, what)
    % FLAG  True or false, of a logical or of 0 and 1.
    if ~(islogical(value) || isnumeric(value)) || ~isscalar(value) || ~any(value == [0, 1])
        error('thingsvision:InvalidRequest', ...
              '%s must be true or false, got %s of class %s.', what, ...
              strjoin(arrayfun(@num2str, size(value), 'UniformOutput', false), ' x '), class(value));
    end
    value = logical(value);
end
