classdef Transport < handle
    % TRANSPORT  Calls a helper process through files in a private folder.
    %
    %   reply = t.call(op, request) is all that the client needs of a transport. reply has
    %   result (what the operation returned), arrays (a cell array) and columns (a cell array
    %   of structs that say what each array is). Errors have ids such as
    %   thingsvision:UnknownModule.
    %
    %   The Python package describes the files (thingsvision_client/matlab/exchange.py).

    properties (SetAccess = private)
        Kind          % 'system' or 'py'; 'auto' until the helper is started
        Folder = ''   % of the files; '' if no helper runs
    end

    properties (Access = private)
        Python        % as the user named it
        Number = 0    % of the last request
        Alive = -1    % file that is open as long as the helper is wanted
    end

    methods

        function obj = Transport(kind, python)
            obj.Kind = thingsvision.internal.text(kind, 'Transport');
            if ~any(strcmp(obj.Kind, {'auto', 'system', 'py'}))
                error('thingsvision:InvalidRequest', ...
                      ['Transport must be ''auto'', ''system'', ''py'' or a function handle, ', ...
                       'got ''%s''.'], obj.Kind);
            end
            obj.Python = thingsvision.internal.text(python, 'Python');
        end

        function reply = call(obj, op, request)
            [request, pixels] = takePixels(request);
            request.op = op;
            request.protocol = 1;
            obj.start();
            try
                reply = obj.exchange(request, pixels);
            catch problem
                if ~strcmp(problem.identifier, 'thingsvision:HelperGone')
                    rethrow(problem);
                end
                % It had ended before it saw the request: a new one may take it.
                obj.stop();
                obj.start();
                reply = obj.exchange(request, pixels);
            end
        end

        function stop(obj)
            % STOP  End the helper; its folder goes with it.
            if isempty(obj.Folder)
                return
            end
            folder = obj.Folder;
            obj.Folder = '';
            if obj.Alive >= 0 && any(fopen('all') == obj.Alive)
                fclose(obj.Alive);
            end
            obj.Alive = -1;
            if thingsvision.internal.isGone(folder)
                thingsvision.internal.removeFolder(folder);
            else
                thingsvision.internal.writeBytes(fullfile(folder, 'stop'), uint8([]));
            end
        end

        function delete(obj)
            obj.stop();
        end

    end

    methods (Access = private)

        function start(obj)
            if ~isempty(obj.Folder) && thingsvision.internal.isGone(obj.Folder)
                obj.stop();
            end
            if ~isempty(obj.Folder)
                return
            end
            folder = tempname();
            [isMade, why] = mkdir(folder);
            if ~isMade
                error('thingsvision:NoFolder', ...
                      'The private folder %s can''t be made: %s. Check tempdir.', folder, why);
            end
            obj.Folder = folder;
            obj.Number = 0;
            obj.Alive = fopen(fullfile(folder, 'alive'), 'w');
            try
                obj.Kind = thingsvision.internal.startHelper(obj.Kind, obj.Python, folder);
            catch problem
                obj.Folder = '';
                fclose(obj.Alive);
                obj.Alive = -1;
                thingsvision.internal.removeFolder(folder);
                rethrow(problem);
            end
        end

        function reply = exchange(obj, request, pixels)
            obj.Number = obj.Number + 1;
            folder = obj.Folder;
            path = @(kind, ending) fullfile(folder, sprintf('%s_%d%s', kind, obj.Number, ending));
            % From here on: the helper waits for this number, and skips it if it is cancelled.
            state = containers.Map({'open'}, {true});
            watch = onCleanup(@() cancelOpen(state, path('cancel', '')));
            if ~isempty(pixels)
                thingsvision.internal.writeBytes(path('request', '.bin'), pixels);
            end
            thingsvision.internal.writeBytes(path('request', '.json'), encode(request));
            thingsvision.internal.writeBytes(path('request', '.go'), uint8([]));
            isVerbose = isfield(request, 'verbose') && request.verbose;
            [answer, head, arrays] = receive(folder, path, isVerbose);
            state('open') = false;
            clear watch;
            thingsvision.internal.warnOf(answer.warnings);
            if ~answer.ok
                error(struct('identifier', ['thingsvision:' answer.id], ...
                             'message', answer.message, 'stack', dbstack(2)));
            end
            reply = struct('result', answer.result, 'arrays', {arrays}, 'columns', {{}});
            if ~isempty(head)
                reply.columns = num2cell(reshape(head.columns, 1, []));
            end
        end

    end
end

function [request, pixels] = takePixels(request)
    pixels = [];
    if isfield(request, 'images') && isfield(request.images, 'pixels')
        pixels = request.images.pixels;
        request.images = rmfield(request.images, 'pixels');
    end
end

function bytes = encode(request)
    try
        bytes = unicode2native(jsonencode(request), 'UTF-8');
    catch problem
        error('thingsvision:InvalidRequest', ...
              'The values of this call can''t be sent (%s): give texts, numbers and structs of them.', ...
              problem.message);
    end
end

function cancelOpen(state, path)
    % Ctrl-C, or an error, ends the request before its reply: the server's work ends with it.
    if state('open') && exist(fileparts(path), 'dir')
        thingsvision.internal.writeBytes(path, uint8([]));
    end
end

function [answer, head, arrays] = receive(folder, path, isVerbose)
    head = [];
    arrays = {};
    answer = [];
    done = 0;
    pieces = 0;
    shown = 0;
    wait = 0.001;
    beat = thingsvision.internal.Beat(folder);
    while true
        isIdle = true;
        if isempty(head) && isfile(path('head', '.json'))
            head = thingsvision.internal.readJson(path('head', '.json'));
            delete(path('head', '.json'));
            arrays = thingsvision.internal.newArrays(head);
            isIdle = false;
        end
        piece = path('piece', sprintf('_%d.bin', pieces));
        if ~isempty(head) && isfile(piece)
            [values, count] = thingsvision.internal.readPiece(piece, head);
            % Here, not in a function of its own, which would copy the arrays for each piece.
            for k = 1:numel(values)
                if head.columns(k).images_first
                    arrays{k}(done + 1:done + count, :) = values{k}.';
                else
                    arrays{k}(:, done + 1:done + count) = values{k};
                end
            end
            done = done + count;
            delete(piece);
            pieces = pieces + 1;
            isIdle = false;
        end
        if isempty(answer) && isfile(path('reply', '.json'))
            answer = thingsvision.internal.readJson(path('reply', '.json'));
            delete(path('reply', '.json'));
            isIdle = false;
        end
        if ~isempty(answer) && (~answer.ok || pieces == answer.piece_count)
            break
        end
        if isVerbose
            shown = thingsvision.internal.showProgress(path('progress', '.json'), shown);
        end
        if isIdle
            beat.check(isempty(answer), path('request', '.go'));
            pause(wait);
            wait = min(1.5 * wait, 0.05);
        else
            wait = 0.001;
        end
    end
    if shown > 0
        fprintf('\n');
    end
    if ~isempty(head) && answer.ok
        arrays = thingsvision.internal.shapeArrays(head, arrays, done);
    end
end
