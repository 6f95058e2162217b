function python = findPython(wanted, folder)
    % FINDPYTHON  A Python >= 3.10 with the package; raises an error that says what is missing.
    if isempty(wanted)
        wanted = getenv('THINGSVISION_PYTHON');
    end
    if ~isempty(wanted)
        candidates = {wanted};
    elseif ispc()
        candidates = {'python', 'py'};
    else
        candidates = {'python3', 'python'};
    end
    name = 'name yours with thingsvision.Client(address, ''Python'', ''/path/to/python'').';
    problem.identifier = 'thingsvision:PythonNotFound';
    problem.message = sprintf('Python was not found (tried %s): install Python 3.10 or newer, or %s', ...
                              strjoin(candidates, ', '), name);
    for k = 1:numel(candidates)
        [version, hasPackage] = probe(candidates{k}, folder);
        if version >= 310 && hasPackage
            python = candidates{k};
            return
        elseif version >= 310
            problem.identifier = 'thingsvision:PackageNotInstalled';
            problem.message = thingsvision.internal.missingPackage(candidates{k});
        elseif version > 0 && strcmp(problem.identifier, 'thingsvision:PythonNotFound')
            problem.identifier = 'thingsvision:PythonTooOld';
            problem.message = sprintf('%s is Python %d.%d, but 3.10 or newer is needed: %s', ...
                                      candidates{k}, floor(version / 100), mod(version, 100), name);
        end
    end
    error(problem);
end

function [version, hasPackage] = probe(python, folder)
    % The version as 100 * major + minor, 0 if it does not run.
    script = fullfile(folder, 'probe.py');
    lines = {'import sys', 'from importlib.util import find_spec', ...
             'found = find_spec("thingsvision_client") and find_spec("thingsvision_client.matlab")', ...
             'print("thingsvision", sys.version_info[0] * 100 + sys.version_info[1], int(bool(found)))'};
    thingsvision.internal.writeBytes(script, uint8(sprintf('%s\n', lines{:})));
    [~, output] = system(thingsvision.internal.shellLine(python, script));
    found = regexp(output, 'thingsvision (\d+) ([01])', 'tokens', 'once');
    version = 0;
    hasPackage = false;
    if ~isempty(found)
        version = str2double(found{1});
        hasPackage = strcmp(found{2}, '1');
    end
end
