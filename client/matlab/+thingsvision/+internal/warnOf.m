function warnOf(messages)
    % WARNOF  Repeat the warnings of Python.
    messages = thingsvision.internal.list(messages);
    for k = 1:numel(messages)
        warning('thingsvision:Warning', '%s', messages{k});
    end
end
