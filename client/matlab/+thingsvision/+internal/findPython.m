function python = findPython(wanted, folder)
%FINDPYTHON  A Python >= 3.10 with the package; raises an error that says what is missing.
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
problem = struct('identifier', 'thingsvision:PythonNotFound', 'message', sprintf( ...
    ['Python was not found (tried %s): install Python 3.10 or newer, or name yours with ', ...
     'thingsvision.Client(address, ''Python'', ''/path/to/python'').'], ...
    strjoin(candidates, ', ')));
for k = 1:numel(candidates)
    [version, hasPackage] = probe(candidates{k}, folder);
    if version >= 310 && hasPackage
        python = candidates{k};
        return
    elseif version >= 310
        problem = struct('identifier', 'thingsvision:PackageNotInstalled', 'message', sprintf( ...
            ['The Python package thingsvision-service is not installed, or is too old: run  ', ...
             '%s -m pip install --upgrade thingsvision-service'], candidates{k}));
    elseif version > 0 && strcmp(problem.identifier, 'thingsvision:PythonNotFound')
        problem = struct('identifier', 'thingsvision:PythonTooOld', 'message', sprintf( ...
            ['%s is Python %d.%d, but 3.10 or newer is needed: install one, and name it with ', ...
             'thingsvision.Client(address, ''Python'', ''/path/to/python'').'], ...
            candidates{k}, floor(version / 100), mod(version, 100)));
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
