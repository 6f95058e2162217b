function [own, others] = options(pairs, names, isStrict)
    % OPTIONS  Split Name, Value pairs into the named ones and all others.
    if mod(numel(pairs), 2) ~= 0
        error('thingsvision:InvalidRequest', ...
              'Options must be pairs of a name and a value, got %d arguments.', numel(pairs));
    end
    own = struct();
    others = struct();
    given = {};
    for k = 1:2:numel(pairs)
        name = thingsvision.internal.text(pairs{k}, 'the name of an option');
        value = pairs{k + 1};
        bare = lower(strrep(name, '_', ''));
        if any(strcmp(bare, given))
            error('thingsvision:InvalidRequest', 'Option ''%s'' is given twice: give it once.', name);
        end
        given{end + 1} = bare; %#ok<AGROW>
        known = strcmpi(name, names);
        if any(known)
            own.(names{known}) = plain(value, name);
        elseif nargin > 2 && isStrict
            error('thingsvision:InvalidRequest', 'Option ''%s'' is unknown; the valid names are %s.', ...
                  name, strjoin(names, ', '));
        elseif isempty(regexp(name, '^[A-Za-z]\w*$', 'once'))
            error('thingsvision:InvalidRequest', 'An option must have a name, got ''%s''.', name);
        else
            others.(name) = plain(value, name);
        end
    end
end

function value = plain(value, name)
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
            value.(names{k}) = plain(value.(names{k}), [name '.' names{k}]);
        end
    elseif iscell(value)
        for k = 1:numel(value)
            value{k} = plain(value{k}, name);
        end
    elseif isnumeric(value)
        value = double(value);
        % JSON has neither: they would arrive as if the option was not given.
        if ~isreal(value) || ~all(isfinite(value(:)))
            error('thingsvision:InvalidRequest', ...
                  ['Option ''%s'' must have finite real numbers, got %s: give such a number, ', ...
                   'or leave the option out.'], name, mat2str(value));
        end
    elseif ~(ischar(value) || islogical(value) || isstruct(value)) && ...
            ~(strcmpi(name, 'Transport') && isa(value, 'function_handle'))
        error('thingsvision:InvalidRequest', ...
              ['Option ''%s'' must be a text, numbers, true or false, a cell array or a struct, ', ...
               'got a value of class %s.'], name, class(value));
    end
end
