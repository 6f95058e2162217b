function given = images(value)
    % IMAGES  What to send: files (or a folder), or pixels.
    if isa(value, 'uint8') && ndims(value) <= 4 && any(size(value, 3) == [1 3])
        given = struct('kind', 'pixels');
        given.size = [size(value, 1), size(value, 2), size(value, 3), size(value, 4)];
        given.pixels = value;
        return
    end
    if isnumeric(value) && ~isempty(value)
        error('thingsvision:InvalidRequest', ...
              ['images must be file names, a folder, or uint8 pixels of height x width x 3 ', ...
               '(x images), got %s of %s. Convert pixels of 0..1 with im2uint8, or ', ...
               'uint8(255 * pixels).'], ...
              class(value), strjoin(arrayfun(@num2str, size(value), 'UniformOutput', false), ' x '));
    end
    if iscell(value) && any(cellfun(@isnumeric, value(:)))
        error('thingsvision:InvalidRequest', ...
              ['images must be file names, a folder, or uint8 pixels, got a cell array of pixels: ', ...
               'cat(4, images{:}) makes an array of images of the same size.']);
    end
    given = struct('kind', 'files', 'folder', pwd);
    given.names = thingsvision.internal.texts(value, 'images');
    if any(cellfun(@isempty, given.names))
        error('thingsvision:InvalidRequest', ...
              ['images must be names of files, or of a folder, got an empty name: ', ...
               'pwd is the current folder.']);
    end
end
