function arrays = shapeArrays(head, arrays, done)
    % SHAPEARRAYS  Give arrays the dimensions that a head announces; done rows of them came.
    for k = 1:numel(arrays)
        column = head.columns(k);
        dims = reshape(column.dims, 1, []);
        if column.images_first
            if done < head.count  % images that were skipped have no row
                arrays{k}(done + 1:end, :) = [];
            end
            if isempty(dims)
                dims = 1;
            end
            arrays{k} = reshape(arrays{k}, [done, dims]);
        else
            if done < head.count
                arrays{k}(:, done + 1:end) = [];
            end
            arrays{k} = reshape(arrays{k}, [dims, done]);
        end
    end
end
