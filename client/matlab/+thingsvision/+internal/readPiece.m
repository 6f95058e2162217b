function [arrays, done] = readPiece(path, head, arrays, done)
    % READPIECE  Read the next rows of all arrays.
    id = fopen(path, 'r', 'ieee-le');
    if id < 0
        error('thingsvision:NoFolder', 'The file %s can''t be read.', path);
    end
    closing = onCleanup(@() fclose(id));
    count = fread(id, 1, 'uint64');
    for k = 1:numel(head.columns)
        column = head.columns(k);
        values = fread(id, [column.unit_count, count], ['*' column.class]);
        if size(values, 2) < count || size(values, 1) < column.unit_count
            error('thingsvision:IncompleteReply', 'The file %s is shorter than announced.', path);
        end
        if column.images_first
            arrays{k}(done + 1:done + count, :) = values.';
        else
            arrays{k}(:, done + 1:done + count) = values;
        end
    end
    done = done + count;
end
