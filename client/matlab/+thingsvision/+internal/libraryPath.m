function setting = libraryPath()
    % LIBRARYPATH  LD_LIBRARY_PATH without MATLAB's own folders, as a setting for env.
    name = 'LD_LIBRARY_PATH';
    if ismac()
        name = 'DYLD_LIBRARY_PATH';
    end
    folders = strsplit(getenv(name), ':');
    own = cellfun(@(folder) strncmp(folder, [matlabroot() filesep()], numel(matlabroot()) + 1), folders);
    if exist('OCTAVE_VERSION', 'builtin')
        own(:) = false;
    end
    setting = [name '=' thingsvision.internal.quote(strjoin(folders(~own), ':'))];
end
