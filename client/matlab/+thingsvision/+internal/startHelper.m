function kind = startHelper(kind, python, folder)
    % STARTHELPER  Start a helper for a folder, and wait until it runs.
    switch kind
        case 'system'
            found = thingsvision.internal.findPython(python, folder);
            thingsvision.internal.startSystem(found, folder);
        case 'py'
            thingsvision.internal.startPy(folder);
        otherwise
            try
                found = thingsvision.internal.findPython(python, folder);
            catch problem
                if ~thingsvision.internal.hasPy()
                    rethrow(problem);
                end
                kind = thingsvision.internal.startHelper('py', python, folder);
                return
            end
            kind = 'system';
            thingsvision.internal.startSystem(found, folder);
    end
    started = tic();
    while exist(fullfile(folder, 'beat'), 'file') ~= 2
        if thingsvision.internal.isGone(folder) || toc(started) > 120
            log = strtrim(thingsvision.internal.readText(fullfile(folder, 'log')));
            lines = strsplit(log, sprintf('\n'));
            error('thingsvision:HelperEnded', ...
                  'The helper process did not start: %s. thingsvision.setup says what is missing.', ...
                  lines{end});
        end
        pause(0.01);
    end
end
