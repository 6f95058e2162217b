function answer = hasPy()
    % HASPY  Whether this MATLAB has a Python interface that can start the helper: from R2022b on.
    answer = exist('pyenv') > 0; %#ok<EXIST> a file or a built-in function
    if answer && ~exist('OCTAVE_VERSION', 'builtin')
        answer = ~verLessThan('matlab', '9.13') && strlength(pyenv().Version) > 0;
    end
end
