function text = missingPackage(python)
    % MISSINGPACKAGE  What to do if a Python lacks the package.
    text = ['The Python package thingsvision-service is not installed, or is too old: run  ', ...
            python, ' -m pip install --upgrade thingsvision-service'];
end
