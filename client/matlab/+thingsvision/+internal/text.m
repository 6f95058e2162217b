function value = text(value, what)
    % TEXT  A text as a row of characters.
    if isa(value, 'string') && isscalar(value)
        value = char(value);
    end
    if isempty(value) && (ischar(value) || isnumeric(value))
        value = '';
    end
    if ~ischar(value) || size(value, 1) > 1
        error('thingsvision:InvalidRequest', '%s must be a text, got a value of class %s.', ...
              what, class(value));
    end
end
