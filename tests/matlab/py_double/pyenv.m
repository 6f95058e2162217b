function settings = pyenv()
    % PYENV  Stands for MATLAB's own: the Python of the test, with a version that a test can choose.
    version = getenv('DOUBLE_PYTHON_VERSION');
    if isempty(version)
        version = '3.11';
    end
    settings = struct('Version', version, 'Executable', getenv('THINGSVISION_PYTHON'));
end
