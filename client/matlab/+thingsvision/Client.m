classdef Client < handle
    % CLIENT  Activations of vision networks, from a server of THINGSvision.
    %
    %   c = thingsvision.Client('gpu:50051') calls the server at this address. Without an
    %   address it is the environment variable THINGSVISION_SERVER. Nothing is sent before the
    %   first call; thingsvision.setup checks an installation.
    %
    %   c = thingsvision.Client(address, Name, Value, ...) takes
    %     'Transport'  'auto' (default), 'system' (a helper process of any Python with the
    %                  package), 'py' (a helper that MATLAB's own Python starts; R2022b and
    %                  later), or a function handle reply = call(op, request)
    %     'Python'     the Python to use, such as '/home/me/venv/bin/python'; default: the
    %                  environment variable THINGSVISION_PYTHON, else python3 or python
    %     'Verbose'    true (default) shows progress in the command window
    %     and every argument of Python's Client by its name: 'Timeout' (seconds that a call may
    %     last), 'Proxy' (false: connect without the proxy of the environment), 'Token' and 'Ca'
    %     (what a server at grpcs://host:port asks for, and whom to trust) ...
    %
    %   Methods
    %     models          what the server can run
    %     modules         the modules (layers) of a model
    %     activations     activations of images: H x W x C x N, rows, or as sent
    %     textActivations activations of texts
    %     rdm             RDMs of images, computed on the server
    %     saveFeatures    activations into a .mat file (v7.3), larger than memory
    %     load, unload, pin, residency    models in the server's memory
    %     upload          weights, or a whole model of yours
    %
    %   Example
    %     c = thingsvision.Client('gpu:50051');
    %     files = {'photos/cat.jpg', 'photos/dog.jpg'};
    %     [A, info] = c.activations('torchvision/alexnet', files, 'features.10');
    %     size(A)       % 13 13 256 2: height, width, channels, images
    %     info.images   % the names of the images
    %
    %   Images are a file name, a folder, a cell array of file names (or a string array), or
    %   pixels: uint8 of H x W x 3 (x N).
    %
    %   See also thingsvision.setup

    properties (SetAccess = private)
        Server = ''   % address of the server, host:port
    end

    properties (Access = private)
        Connection    % arguments of Python's Client
        Verbose = true
        Call          % function handle: reply = call(op, request)
        Transport     % holds the helper; [] if Call was given
    end

    methods

        function obj = Client(server, varargin)
            if nargin < 1
                server = '';
            end
            names = {'Transport', 'Python', 'Verbose'};
            [own, others] = thingsvision.internal.options(varargin, names);
            obj.Connection = others;
            obj.Server = thingsvision.internal.text(server, 'server');
            if isempty(obj.Server)
                obj.Server = getenv('THINGSVISION_SERVER');
            end
            if ~isempty(obj.Server)
                obj.Connection.Server = obj.Server;
            end
            if isfield(own, 'Verbose')
                obj.Verbose = thingsvision.internal.flag(own.Verbose, 'Verbose');
            end
            transport = thingsvision.internal.field(own, 'Transport', 'auto');
            if isa(transport, 'function_handle')
                obj.Call = transport;
            else
                python = thingsvision.internal.field(own, 'Python', '');
                obj.Transport = thingsvision.internal.Transport(transport, python);
                helper = obj.Transport;
                obj.Call = @(op, request) helper.call(op, request);
            end
        end

        function delete(obj)
            if ~isempty(obj.Transport)
                obj.Transport.stop();
            end
            obj.Call = @refuse;  % Octave lets a deleted client be called
        end

        function list = models(obj, source, pattern)
            % MODELS  The models that the server can run.
            %
            %   list = c.models() is a struct array with the fields source, name, pretrained
            %   (struct array of weights: tag, is_default, state), backend, task,
            %   parameter_count (0: unknown) and input_shape.
            %   list = c.models('torchvision', 'resnet*') chooses a source and a pattern of
            %   names; '' is any.
            request = struct('source', '', 'name_glob', '');
            if nargin > 1
                request.source = thingsvision.internal.text(source, 'source');
            end
            if nargin > 2
                request.name_glob = thingsvision.internal.text(pattern, 'pattern');
            end
            list = thingsvision.internal.records(obj.ask('models', request));
        end

        function list = modules(obj, model)
            % MODULES  The modules (layers) of a model, in order of execution.
            %
            %   list = c.modules('torchvision/alexnet') is a struct array with the fields name,
            %   type, attributes, output_shape (of one image, in the server's order),
            %   output_axes (what these axes are; '' if unknown), extractable, reason (why
            %   not), call_count, parameter_count and others. The weights are not needed.
            request = struct('model', thingsvision.internal.text(model, 'model'));
            list = thingsvision.internal.records(obj.ask('modules', request));
        end

        function [A, info] = activations(obj, model, images, modules, varargin)
            % ACTIVATIONS  Activations of images.
            %
            %   A = c.activations('torchvision/alexnet', images, 'features.10') is single,
            %   H x W x C x N for maps, 1 x 1 x D x N for vectors, and T x D x N for tokens,
            %   as Deep Learning Toolbox has it. Several modules (a cell array) give a struct
            %   with a field per module; info.modules has their exact names.
            %
            %   [A, info] = c.activations(...) also returns
            %     info.images      N x 1 cell array, the names of the images
            %     info.modules     the exact names of the modules
            %     info.fields      the fields of A that belong to them
            %     info.axes        per module, the axes as the server sends them
            %     info.unitIndex   per module, for 'rows' and 'Flatten': the place (from 1) of
            %                      each column in the server's order, so that units, PCAs and
            %                      Python's columns can be matched; else []
            %     info.provenance  struct: model, SHA-256 of the weights, preprocessing ...
            %     info.provenanceText  the same as JSON text, for files
            %     info.batchSize   images in a forward pass; 0: as many as were ready
            %
            %   c.activations(..., Name, Value)
            %     'OutputAs'   'channels' (default) as above; refused where axes are unknown
            %                  'rows'     N x features, in MATLAB's own order
            %                  'native'   as the server sends them, images first: N x C x H x W
            %                             for PyTorch, N x H x W x C for Keras
            %     'Flatten'    true: one row or column of values per image
            %     'Names'      names for images that are given as pixels
            %     'Precision'  'float32' (default), 'tf32', 'bfloat16' or 'float16'
            %     'Reduction'  struct, what makes activations smaller on the server:
            %                  Pool ('mean' or 'max') with PoolAxes (such as {'height',
            %                  'width'}, or places in the server's order, from 1), Units
            %                  (places in the server's order, from 1), Components and Seed (a
            %                  random projection), Pca (its name or SHA-256)
            %     'OnError'    'raise' (default), or 'skip' images that can't be read: they have no
            %                  row, and info.skipped says which (place, name, reason)
            %     'BatchSize', 'TokenExtraction', 'Preprocessing', 'Deterministic',
            %     'MemoryFormat', 'Compiled', 'Dtype', 'Streams', 'AllowMixed': as in Python's
            %     Client.extract
            %
            %   Ctrl-C stops the server's work, too.
            request = obj.features(model, thingsvision.internal.images(images), modules, varargin);
            reply = obj.Call('activations', request);
            [A, info] = thingsvision.internal.results(reply, request);
        end

        function [A, info] = textActivations(obj, model, texts, modules, varargin)
            % TEXTACTIVATIONS  Activations of texts, of models that see texts.
            %
            %   A = c.textActivations('custom/clip/ViT-B-32', {'a cat', 'a rocket'}) is
            %   1 x 1 x D x N of the model's whole text tower, in the space of its activations
            %   of images. A fourth argument names modules; the rest is as in activations.
            if nargin < 4
                modules = {};
            end
            given = struct('kind', 'texts', 'names', {thingsvision.internal.texts(texts, 'texts')});
            request = obj.features(model, given, modules, varargin);
            reply = obj.Call('activations', request);
            [A, info] = thingsvision.internal.results(reply, request);
        end

        function [D, info] = rdm(obj, model, images, modules, varargin)
            % RDM  Representational dissimilarity matrices; activations stay on the server.
            %
            %   D = c.rdm('torchvision/alexnet', images, 'features.10') is double, N x N,
            %   symmetric, with zeros on the diagonal. Several modules give a struct.
            %   [D, info] = c.rdm(...) also returns info.images, info.modules, info.fields,
            %   info.metric, info.undefined (per module, the images without a distance, whose
            %   rows are NaN), info.arithmetic (per module, how inner products were computed),
            %   info.provenance and info.provenanceText.
            %
            %   c.rdm(..., Name, Value)
            %     'Metric'  'correlation' (default: 1 - Pearson's r), 'cosine', 'euclidean' or
            %               'gaussian'
            %     'Form'    'square' (default) or 'vector', in the order of pdist (1 x pairs)
            %     and the options of activations that concern the forward pass.
            given = thingsvision.internal.images(images);
            [own, others] = thingsvision.internal.options(varargin, {'Metric', 'Form', 'Names'});
            request = obj.features(model, given, modules, {});
            request = thingsvision.internal.withNames(request, own);
            request.options = others;
            request.metric = thingsvision.internal.field(own, 'Metric', 'correlation');
            request.form = thingsvision.internal.field(own, 'Form', 'square');
            reply = obj.Call('rdm', request);
            [D, info] = thingsvision.internal.rdms(reply, request);
        end

        function path = saveFeatures(obj, model, images, modules, path, varargin)
            % SAVEFEATURES  Activations into a file, larger than memory; the same call resumes.
            %
            %   c.saveFeatures(model, images, modules, 'results/alexnet.mat') writes a .mat
            %   file of version 7.3 with the variables features (or one per module),
            %   file_names, provenance (JSON text) and output_as. Values and orders are those
            %   of activations: matfile and h5read give them without transposing.
            %   c.saveFeatures(..., 'results', 'OutputAs', 'native') writes a folder of .npy
            %   files, as Python does.
            %   Options are those of activations.
            given = thingsvision.internal.images(images);
            request = obj.features(model, given, modules, varargin);
            request.path = thingsvision.internal.text(path, 'path');
            request.folder = pwd;
            reply = obj.Call('save', request);
            path = reply.result.path;
        end

        function resident = load(obj, model)
            % LOAD  Load a model before its first use; returns its device and bytes.
            resident = obj.ask('load', obj.about(model));
        end

        function bytes = unload(obj, model)
            % UNLOAD  Free a model's memory; returns the bytes that are free again.
            found = obj.ask('unload', obj.about(model));
            bytes = found.freed_bytes;
        end

        function resident = pin(obj, model, pinned)
            % PIN  Keep a model in memory; c.pin(model, false) unpins it.
            request = obj.about(model);
            request.pinned = nargin < 3 || thingsvision.internal.flag(pinned, 'pinned');
            resident = obj.ask('pin', request);
        end

        function state = residency(obj)
            % RESIDENCY  The models in memory, and the server's devices with their bytes.
            state = obj.ask('residency', struct());
            state.models = thingsvision.internal.records(state.models);
            state.devices = thingsvision.internal.records(state.devices);
        end

        function found = upload(obj, path, varargin)
            % UPLOAD  Send weights, or a whole model of yours (.pt2, .onnx, .keras).
            %
            %   found = c.upload('net.pth') has the field sha256: name a model with these
            %   weights ['torchvision/resnet50@sha256:' found.sha256].
            %   found = c.upload('net.pt2', 'Preprocessing', struct('resize_pixels', 256,
            %   'crop_pixels', 224)) has the field model, such as 'own/0123...'.
            %   c.upload(..., 'Share', true) lets others use it by its SHA-256.
            own = thingsvision.internal.options(varargin, {'Preprocessing', 'Share'}, true);
            request = struct('path', thingsvision.internal.text(path, 'path'), 'folder', pwd);
            request.preprocessing = thingsvision.internal.field(own, 'Preprocessing', []);
            share = thingsvision.internal.field(own, 'Share', false);
            request.share = ~isempty(share) && thingsvision.internal.flag(share, 'Share');
            found = obj.ask('upload', request);
        end

        function found = share(obj, what)
            % SHARE  Let others use what you left on the server: an upload, a PCA, an image.
            %
            %   found = c.share(c.upload('net.pth')), or c.share(SHA256), has the fields kinds
            %   (what it is) and shared_with: '@NAME' for your group, '*' for everybody whom the
            %   server lets in. Others name it by its SHA-256; only you and an admin delete it.
            found = obj.ask('share', obj.sharing(what, true));
        end

        function found = unshare(obj, what)
            % UNSHARE  Stop sharing it; requests that are using it finish with it.
            found = obj.ask('share', obj.sharing(what, false));
        end

        function found = versions(obj)
            % VERSIONS  The versions of the helper's Python and of its package.
            found = obj.ask('hello', struct());
        end

    end

    methods (Access = private)

        function result = ask(obj, op, request)
            request.connection = obj.Connection;
            request.verbose = obj.Verbose;
            reply = obj.Call(op, request);
            result = reply.result;
        end

        function request = about(~, model)
            request = struct('model', thingsvision.internal.text(model, 'model'));
        end

        function request = sharing(~, what, shared)
            if isstruct(what) && isfield(what, 'sha256')
                what = what.sha256;
            end
            request = struct('what', thingsvision.internal.text(what, 'what'), 'shared', shared);
        end

        function request = features(obj, model, images, modules, pairs)
            names = {'OutputAs', 'Flatten', 'Names'};
            [own, others] = thingsvision.internal.options(pairs, names);
            request = struct('model', thingsvision.internal.text(model, 'model'));
            request.images = images;
            request.modules = thingsvision.internal.texts(modules, 'modules');
            request = thingsvision.internal.withNames(request, own);
            request.output_as = thingsvision.internal.field(own, 'OutputAs', 'channels');
            flatten = thingsvision.internal.field(own, 'Flatten', false);
            request.flatten = ~isempty(flatten) && thingsvision.internal.flag(flatten, 'Flatten');
            request.options = others;
            request.connection = obj.Connection;
            request.verbose = obj.Verbose;
        end

    end
end

function reply = refuse(varargin) %#ok<STOUT> never returns
    error('thingsvision:Deleted', ...
          'This client was deleted: make a new one, thingsvision.Client(server).');
end
