function arrays = shapeArrays(head, arrays)
    % SHAPEARRAYS  Give arrays the dimensions that a head announces.
    for k = 1:numel(arrays)
        column = head.columns(k);
        dims = reshape(column.dims, 1, []);
        if column.images_first
            arrays{k} = reshape(arrays{k}, [head.count, dims, ones(1, isempty(dims))]);
        else
            arrays{k} = reshape(arrays{k}, [dims, head.count]);
        end
    end
end
