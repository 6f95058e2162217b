function list = texts(value, what)
    % TEXTS  Texts as a row of a cell array.
    if isa(value, 'string')
        value = cellstr(value);
    end
    if ischar(value) && size(value, 1) > 1
        value = cellstr(value);
    elseif ischar(value)
        value = {value};
    end
    if isempty(value)
        list = {};
        return
    end
    if ~iscell(value)
        error('thingsvision:InvalidRequest', ...
              '%s must be a text or a cell array of texts, got a value of class %s.', ...
              what, class(value));
    end
    for k = 1:numel(value)
        if isa(value{k}, 'string') && isscalar(value{k})
            value{k} = char(value{k});
        end
        if ~ischar(value{k}) || size(value{k}, 1) > 1
            error('thingsvision:InvalidRequest', ...
                  '%s must be a text or a cell array of texts, but entry %d is of class %s.', ...
                  what, k, class(value{k}));
        end
    end
    list = reshape(value, 1, []);
end
