function list = texts(value, what)
    % TEXTS  Texts as a row of a cell array.
    if isa(value, 'string')
        value = cellstr(value);
    end
    if ischar(value)
        value = {value};
    end
    if isempty(value)
        list = {};
        return
    end
    if ~iscell(value) || ~all(cellfun(@ischar, value(:)))
        error('thingsvision:InvalidRequest', ...
              '%s must be a text or a cell array of texts, got a value of class %s.', ...
              what, class(value));
    end
    list = reshape(value, 1, []);
end
