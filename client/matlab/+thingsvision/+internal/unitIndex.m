function index = unitIndex(column)
    % UNITINDEX  The place (from 1) of each value in the server's order, in which the last axis of
    %   column.shape is adjacent in memory; column.axes are its axes from MATLAB's first to its last.
    shape = reshape(column.shape, 1, []);
    axes = reshape(column.axes, 1, []);
    count = numel(shape);
    if count < 2
        index = 1:prod(shape);
        return
    end
    places = reshape(1:prod(shape), fliplr(shape));
    index = reshape(permute(places, count - axes), 1, []);
end
