function line = shellLine(python, varargin)
    % SHELLLINE  A command line for system, of Python and its arguments.
    words = [{python}, varargin];
    if ispc()
        quoted = cellfun(@(text) ['"' text '"'], words, 'UniformOutput', false);
        line = ['"' strjoin(quoted, ' ') '" 2>&1'];
        return
    end
    quoted = cellfun(@thingsvision.internal.quote, words, 'UniformOutput', false);
    % MATLAB's own libraries in the path would be taken for those of Python.
    line = sprintf('env %s %s 2>&1', thingsvision.internal.libraryPath(), strjoin(quoted, ' '));
end
