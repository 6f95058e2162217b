function [own, others] = options(pairs, names, isStrict)
    % OPTIONS  Split Name, Value pairs into the named ones and all others.
    if mod(numel(pairs), 2) ~= 0
        error('thingsvision:InvalidRequest', ...
              'Options must be pairs of a name and a value, got %d arguments.', numel(pairs));
    end
    own = struct();
    others = struct();
    for k = 1:2:numel(pairs)
        name = thingsvision.internal.text(pairs{k}, 'the name of an option');
        value = pairs{k + 1};
        known = strcmpi(name, names);
        if any(known)
            own.(names{known}) = plain(value);
        elseif nargin > 2 && isStrict
            error('thingsvision:InvalidRequest', 'Option ''%s'' is unknown; the valid names are %s.', ...
                  name, strjoin(names, ', '));
        elseif isempty(regexp(name, '^[A-Za-z]\w*$', 'once'))
            error('thingsvision:InvalidRequest', 'An option must have a name, got ''%s''.', name);
        else
            others.(name) = plain(value);
        end
    end
end

function value = plain(value)
    % Values of options as jsonencode takes them.
    if isa(value, 'string')
        if isscalar(value)
            value = char(value);
        else
            value = cellstr(value);
        end
    elseif isstruct(value) && isscalar(value)
        names = fieldnames(value);
        for k = 1:numel(names)
            value.(names{k}) = plain(value.(names{k}));
        end
    elseif isnumeric(value)
        value = double(value);
    end
end
