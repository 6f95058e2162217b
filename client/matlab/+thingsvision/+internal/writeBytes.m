function writeBytes(path, bytes)
    % WRITEBYTES  Write uint8 values, of any shape, to a file.
    [id, why] = fopen(path, 'w');
    if id < 0
        error('thingsvision:NoFolder', 'The file %s can''t be written: %s.', path, why);
    end
    closing = onCleanup(@() fclose(id));
    if fwrite(id, bytes, 'uint8') < numel(bytes)
        error('thingsvision:NoFolder', 'The file %s can''t be written: is the disk full?', path);
    end
end
