function values = list(decoded)
    % LIST  A list of texts from JSON as a column of a cell array, also with one entry or none.
    if isempty(decoded)
        values = cell(0, 1);
    elseif ischar(decoded)
        values = {decoded};
    elseif iscell(decoded)
        values = decoded(:);
    else
        values = {decoded};
    end
end
