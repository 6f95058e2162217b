function text = readText(path)
    % READTEXT  The text of a UTF-8 file; '' if it can't be read.
    id = fopen(path, 'r');
    if id < 0
        text = '';
        return
    end
    closing = onCleanup(@() fclose(id));
    bytes = fread(id, [1, inf], '*uint8');
    text = '';
    if ~isempty(bytes)
        text = native2unicode(bytes, 'UTF-8');
    end
end
