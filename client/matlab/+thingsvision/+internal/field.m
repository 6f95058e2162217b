function value = field(from, name, default)
    % FIELD  A field of a struct, or a default.
    if isfield(from, name)
        value = from.(name);
    else
        value = default;
    end
end
