function start_helper(folder, python)
    % START_HELPER  Stands for MATLAB's Python: a process that lives as long as the folder.
    if ~isempty(getenv('DOUBLE_PYTHON_PROBLEM'))
        error('MATLAB:Python:PyException', '%s', getenv('DOUBLE_PYTHON_PROBLEM'));
    end
    code = ['import os, sys, time; ', ...
            'from thingsvision_client.matlab.starting import start_helper; ', ...
            'start_helper(*sys.argv[1:]); ', ...
            'any(iter(lambda: time.sleep(0.05) or not os.path.exists(sys.argv[1]), True))'];
    system(sprintf('"%s" -c ''%s'' "%s" "%s" >/dev/null 2>&1 &', python, code, folder, python));
end
