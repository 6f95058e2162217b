function startSystem(python, folder)
    % STARTSYSTEM  Start the helper in the background with system; it ends with this process.
    if ispc()
        lines = {'@chcp 65001 >nul', ...
                 sprintf('@"%s" -m thingsvision_client.matlab "%s" >"%s" 2>&1 <nul', ...
                         python, folder, fullfile(folder, 'log')), ...
                 sprintf('@if exist "%s" echo ended >"%s"', folder, fullfile(folder, 'ended')), ...
                 '@exit'};
        script = fullfile(folder, 'start.cmd');
        text = sprintf('%s\r\n', lines{:});
        thingsvision.internal.writeBytes(script, unicode2native(text, 'UTF-8'));
        system(['"' script '" &']);
        return
    end
    quote = @thingsvision.internal.quote;
    % PPID is the process that runs the script: MATLAB. The outer shell may be any, such as csh.
    command = sprintf('env %s %s -m thingsvision_client.matlab %s --parent "$PPID" >%s 2>&1', ...
                      thingsvision.internal.libraryPath(), quote(python), quote(folder), ...
                      quote(fullfile(folder, 'log')));
    ended = sprintf('{ echo "$?" >%s; } 2>/dev/null', quote(fullfile(folder, 'ended')));
    text = sprintf('chmod 700 %s\n( %s; %s ) </dev/null >/dev/null 2>&1 &\n', ...
                   quote(folder), command, ended);
    script = fullfile(folder, 'start.sh');
    thingsvision.internal.writeBytes(script, unicode2native(text, 'UTF-8'));
    [status, output] = system(['exec /bin/sh ' quote(script)]);
    if status ~= 0
        error('thingsvision:HelperEnded', 'The helper process did not start: %s', strtrim(output));
    end
end
