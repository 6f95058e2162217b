function startPy(folder)
    % STARTPY  Start the helper from MATLAB's own Python, in or out of MATLAB's process.
    name = 'pyenv(''Version'', ''/path/to/python'')';
    if ~thingsvision.internal.hasPy()
        error('thingsvision:PythonNotFound', ...
              ['MATLAB''s own Python was not found: it needs R2022b or newer, and %s. ', ...
               'Or choose ''Transport'', ''system''.'], name);
    end
    settings = pyenv();
    python = char(settings.Executable);
    version = sscanf(char(settings.Version), '%d.%d');
    if version(1) * 100 + version(2) < 310
        error('thingsvision:PythonTooOld', ...
              '%s is Python %s, but 3.10 or newer is needed: restart MATLAB, and call %s.', ...
              python, char(settings.Version), name);
    end
    try
        py.thingsvision_client.matlab.starting.start_helper(folder, python);
    catch problem
        if isempty(regexp(problem.message, 'thingsvision_client|ModuleNotFound', 'once'))
            rethrow(problem);
        end
        error('thingsvision:PackageNotInstalled', '%s', thingsvision.internal.missingPackage(python));
    end
end
