function list = records(decoded)
    % RECORDS  A list of JSON objects as a struct array, n x 1, also when it is empty.
    if isempty(decoded)
        list = struct([]);
    elseif iscell(decoded)
        list = vertcat(decoded{:});
    else
        list = decoded(:);
    end
end
