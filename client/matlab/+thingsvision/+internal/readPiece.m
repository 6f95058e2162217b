function [values, count] = readPiece(path, head)
    % READPIECE  Read the next rows: for each array, values x rows; and the number of rows.
    id = fopen(path, 'r', 'ieee-le');
    if id < 0
        error('thingsvision:NoFolder', 'The file %s can''t be read.', path);
    end
    closing = onCleanup(@() fclose(id));
    count = fread(id, 1, 'uint64');
    values = cell(1, numel(head.columns));
    for k = 1:numel(values)
        column = head.columns(k);
        found = fread(id, column.unit_count * count, ['*' column.class]);
        if numel(found) < column.unit_count * count
            error('thingsvision:IncompleteReply', 'The file %s is shorter than announced.', path);
        end
        values{k} = reshape(found, column.unit_count, count);
    end
end
