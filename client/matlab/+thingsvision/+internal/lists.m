function values = lists(decoded, delimiter)
    % LISTS  Lists of texts, each sent as one text, as a column of cell arrays.
    values = thingsvision.internal.list(decoded);
    for k = 1:numel(values)
        if isempty(values{k})
            values{k} = cell(0, 1);
        else
            values{k} = reshape(strsplit(values{k}, delimiter), [], 1);
        end
    end
end
