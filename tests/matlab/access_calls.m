function access_calls(server, ca, other, photo, weights)
    % Extracts and shares by TLS with a token, and keeps what is said where something is wrong.
    results = struct();
    model = 'torchvision/squeezenet1_1@random:0';
    good = getenv('TOKEN_GOOD');  % never an argument, which others could read
    c = thingsvision.Client(server, 'Ca', ca, 'Token', good, 'Verbose', false);
    results.rows = c.activations(model, {photo}, 'classifier.3', 'OutputAs', 'rows', ...
                                 'BatchSize', 1);
    u = thingsvision.Client(server, 'Ca', ca, 'Token', getenv('TOKEN_SENDER'), 'Verbose', false);
    sent = u.upload(weights, 'Share', true);
    again = u.share(sent);
    results.sharing = {sent.sha256, again.kinds, again.shared_with};
    over = u.unshare(['sha256:' sent.sha256]);
    results.unsharing = {over.kinds, over.shared_with};
    calls = {'anothers', @() c.share(sent.sha256); 'nothing', @() u.unshare('net.pth'); ...
             'number', @() u.share(7)};
    for k = 1:size(calls, 1)
        try
            calls{k, 2}();
        catch problem
            results.(calls{k, 1}) = {problem.identifier, problem.message};
        end
    end
    wrong = {'certificate', other, good; ...
             'token', ca, getenv('TOKEN_WRONG'); ...
             'expired', ca, getenv('TOKEN_EXPIRED'); ...
             'revoked', ca, getenv('TOKEN_REVOKED'); ...
             'scope', ca, getenv('TOKEN_READER')};
    for k = 1:size(wrong, 1)
        try
            d = thingsvision.Client(server, 'Ca', wrong{k, 2}, 'Token', wrong{k, 3}, ...
                                    'Verbose', false);
            d.activations(model, {photo}, 'classifier.3');
        catch problem
            results.(wrong{k, 1}) = {problem.identifier, problem.message};
        end
    end
    save('-v7', 'results.mat', '-struct', 'results');
end
