function shown = showProgress(path, shown)
    % SHOWPROGRESS  Show the helper's progress in place of the last one; shown is its length.
    if ~isfile(path)
        return
    end
    text = thingsvision.internal.readText(path);
    try
        delete(path);
        told = jsondecode(text);
    catch
        return  % it is being replaced: the next one comes soon
    end
    if told.total > 0
        line = sprintf('%s %d/%d', told.stage, told.done, told.total);
    else
        line = sprintf('%s %d', told.stage, told.done);
    end
    fprintf('%s%s', repmat(sprintf('\b'), 1, shown), line);
    shown = numel(line);
    drawnow();
end
