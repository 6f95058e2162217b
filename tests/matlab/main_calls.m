function main_calls(server, photos, odd, keras)
    % Calls every method of the client, and saves what it returned for Python's tests.
    results = struct();
    failures = struct('id', {}, 'message', {});
    c = thingsvision.Client(server, 'Timeout', 100, 'Verbose', false);
    results.versions = c.versions();
    results.models = c.models('torchvision', 'squeeze*');
    torch = 'torchvision/squeezenet1_1@random:0';
    results.modules = c.modules(torch);
    declared = struct('ResizePixels', [40, 56], 'MadeUp', 1);
    try
        c.upload(keras, 'Preprocessing', declared);
    catch problem
        results.declared = struct('id', problem.identifier, 'message', problem.message);
    end
    results.uploaded = c.upload(keras, 'Preprocessing', struct('ResizePixels', [40, 56]));
    tall = struct('Resize', [96, 160], 'Crop', false);
    cases = {'torch', torch, 'features.5'; ...
             'keras', results.uploaded.model, 'act'; ...
             'tokens', 'timm/vit_tiny_patch16_224@random:0', 'blocks.1'};
    orders = {'channels', 'rows', 'native'};
    for k = 1:3
        options = {'BatchSize', 2};
        if k == 1
            options = [options, {'Preprocessing', tall}]; %#ok<AGROW>
        end
        for order = orders
            [A, info] = c.activations(cases{k, 2}, photos, cases{k, 3}, options{:}, ...
                                      'OutputAs', order{1});
            results.(cases{k, 1}).(order{1}) = A;
            results.(cases{k, 1}).(['info_' order{1}]) = info;
        end
        results.(cases{k, 1}).flat = c.activations(cases{k, 2}, photos, cases{k, 3}, options{:}, ...
                                                   'OutputAs', 'native', 'Flatten', true);
    end
    [A, info] = c.activations(torch, photos, {'features.5', 'classifier.1', ''}, 'BatchSize', 2);
    results.several = A;
    results.several_info = info;
    results.model_size = size(A.model);
    % Pixels are the image of a PNG of the same pixels; the image has no symmetry.
    pixels = imread(odd);
    results.pixels = pixels;
    results.from_pixels = c.activations(torch, pixels, 'features.3');
    results.from_file = c.activations(torch, odd, 'features.3');
    umlaut = native2unicode(uint8([195 188]), 'UTF-8');
    [~, info] = c.activations(torch, cat(4, pixels, pixels), 'features.3', 'Names', {'a', umlaut});
    results.named = info.images;
    [~, info] = c.activations(torch, photos, 'features.3');
    results.folder_images = info.images;
    broken = fullfile(pwd, 'broken.png');
    fclose(fopen(broken, 'w'));
    files = {odd, broken, odd};
    results.all_good = c.activations(torch, {odd, odd}, 'features.3', 'BatchSize', 1);
    [results.skipping, info] = c.activations(torch, files, 'features.3', 'BatchSize', 1, 'OnError', 'skip');
    results.skipped = info.skipped;
    results.skipping_rows = c.activations(torch, files, 'features.3', 'BatchSize', 1, ...
                                          'OnError', 'skip', 'OutputAs', 'native');
    [results.skipping_rdm, info] = c.rdm(torch, files, 'features.3', 'OnError', 'skip');
    results.skipping_names = info.images;
    results.pooled = c.activations(torch, odd, 'features.5', 'Reduction', ...
                                   struct('Pool', 'mean', 'PoolAxes', {{'height', 'width'}}));
    results.pooled_by_place = c.activations(torch, odd, 'features.5', 'Reduction', ...
                                            struct('Pool', 'mean', 'PoolAxes', [2, 3]));
    results.units = c.activations(torch, odd, 'features.5', 'Reduction', struct('Units', [7, 1, 100]));
    [D, info] = c.rdm(torch, photos, 'features.5', 'Metric', 'euclidean', 'BatchSize', 2);
    results.rdm = D;
    results.rdm_info = info;
    results.rdm_vector = c.rdm(torch, photos, 'features.5', 'Metric', 'euclidean', ...
                               'BatchSize', 2, 'Form', 'vector');
    results.rdms = c.rdm(torch, photos, {'features.3', 'features.5'});
    results.loaded = c.load(torch);
    results.pinned = c.pin(torch);
    results.unpinned = c.pin(torch, false);
    results.residency = c.residency();
    results.freed = c.unload(torch);
    results.saved = c.saveFeatures(torch, photos, {'features.5', 'classifier.1'}, 'saved.mat', ...
                                   'BatchSize', 2);
    results.saved_rows = c.saveFeatures(torch, photos, 'features.5', 'rows.mat', 'BatchSize', 2, ...
                                        'OutputAs', 'rows');
    results.saved_native = c.saveFeatures(torch, photos, 'features.5', 'native.mat', ...
                                          'BatchSize', 2, 'OutputAs', 'native');
    results.again = c.saveFeatures(torch, photos, 'features.5', 'rows.mat', 'BatchSize', 2, ...
                                   'OutputAs', 'rows');
    results.in_folder = c.saveFeatures(torch, photos, 'features.5', 'chunks', 'BatchSize', 2, ...
                                       'OutputAs', 'native');
    bad = { ...
           @() c.modules('torchvision/squeezenet1_2'), ...
           @() c.activations(torch, photos, 'features.55'), ...
           @() c.activations(torch, {}, 'features.5'), ...
           @() c.activations(torch, 'no such folder/x.png', 'features.5'), ...
           @() c.activations(torch, double(pixels), 'features.5'), ...
           @() c.activations(torch, photos, 'features.5', 'BatchSise', 2), ...
           @() c.activations(torch, photos, 'features.5', 'OutputAs', 'rowz'), ...
           @() c.activations('timm/vit_tiny_patch16_224@random:0', photos, 'blocks.0.attn.q_norm'), ...
           @() c.rdm(torch, photos, 'features.5', 'Metric', 'manhattan'), ...
           @() c.saveFeatures(torch, photos, 'features.5', 'rows.mat'), ...
           @() c.unload('torchvision/alexnet'), ...
           @() c.upload('no such file.pth'), ...
           @() thingsvision.Client('127.0.0.1:1', 'Verbose', false).residency(), ...
           @() thingsvision.Client(server, 'Timeoutt', 3).residency(), ...
           @() thingsvision.Client(server, 'Python', '/no/such/python').residency(), ...
           @() thingsvision.Client(server, 'Transport', 'java'), ...
           @() c.rdm(torch, photos, 'features.5', 'Metric'), ...
           @() c.activations(torch, files, 'features.3'), ...
           @() c.activations(torch, '', 'features.5'), ...
           @() c.activations(torch, {pixels, pixels}, 'features.5'), ...
           @() c.activations(torch, photos, 'features.5', 'BatchSize', NaN), ...
           @() c.activations(torch, photos, 'features.5', 'BatchSize', 1 + 2i), ...
           @() c.activations(torch, photos, 'features.5', 'BatchSize', @sin), ...
           @() c.activations(torch, photos, 'features.5', 'BatchSize', 2, 'batch_size', 1), ...
           @() c.activations(torch, photos, 'features.5', 'Flatten', 'false'), ...
           @() c.activations(torch, photos, 'features.5', 'Flatten', [true, false]), ...
           @() c.activations(torch, {odd, 3}, 'features.5'), ...
           @() thingsvision.Client(server, 'Timeout', Inf)};
    for k = 1:numel(bad)
        try
            bad{k}();
            failures(k) = struct('id', 'nothing', 'message', '');
        catch problem
            failures(k) = struct('id', problem.identifier, 'message', problem.message);
        end
    end
    results.failures = failures;
    loud = thingsvision.Client(server); %#ok<NASGU> in evalc
    results.progress = evalc('loud.activations(torch, repmat({odd}, 1, 300), ''classifier.1'');');
    results.ok = thingsvision.setup(server);
    results.not_ok = thingsvision.setup('127.0.0.1:1');
    addpath(fullfile(fileparts(mfilename('fullpath')), 'py_double'));
    p = thingsvision.Client(server, 'Transport', 'py', 'Verbose', false);
    results.by_py = p.activations(torch, photos, 'features.5', 'BatchSize', 2);
    clear p;
    py_problems = struct('id', {}, 'message', {});
    settings = {'DOUBLE_PYTHON_VERSION', '3.8'; ...
                'DOUBLE_PYTHON_PROBLEM', 'Unable to resolve the name py.thingsvision_client'};
    for k = 1:2
        setenv(settings{k, :});
        try
            thingsvision.Client(server, 'Transport', 'py').residency();
        catch problem
            py_problems(k) = struct('id', problem.identifier, 'message', problem.message);
        end
        setenv(settings{k, 1}, '');
    end
    results.py_problems = py_problems;
    h = thingsvision.Client(server, 'Transport', ...
                            @(op, request) struct('result', struct('freed_bytes', [op request.model])));
    results.by_handle = h.unload('x/y');
    save('-v7', 'results.mat', '-struct', 'results');
end
