function arrays = newArrays(head)
    % NEWARRAYS  Arrays for the rows that a head announces: values x images, or images x values.
    count = numel(head.columns);
    arrays = cell(1, count);
    for k = 1:count
        column = head.columns(k);
        if column.images_first
            arrays{k} = zeros(head.count, column.unit_count, column.class);
        else
            arrays{k} = zeros(column.unit_count, head.count, column.class);
        end
    end
end
