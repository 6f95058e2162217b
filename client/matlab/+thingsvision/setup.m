function ok = setup(server, varargin)
    % SETUP  Check the installation: Python, the package, the server, and one round trip.
    %
    %   thingsvision.setup('gpu:50051') says in plain words what works and what is missing. Without
    %   an address the environment variable THINGSVISION_SERVER names the server. Options are those
    %   of thingsvision.Client. ok = thingsvision.setup(...) is true if all works.
    %
    %   See also thingsvision.Client
    if nargin < 1
        server = '';
    end
    ok = false;
    try
        c = thingsvision.Client(server, varargin{:});
        versions = c.versions();
        fprintf('Python:   %s, %s\n', versions.python, versions.path);
        fprintf('Package:  thingsvision-service %s\n', versions.client);
    catch problem
        fprintf('Python:   %s\n', problem.message);
        return
    end
    try
        state = c.residency();
        devices = arrayfun(@(device) device.name, state.devices, 'UniformOutput', false);
        fprintf('Server:   %s answers; its devices: %s\n', c.Server, strjoin(devices(:).', ', '));
    catch problem
        fprintf('Server:   %s\n', problem.message);
        return
    end
    try
        pixels = uint8(reshape(mod(1:224 * 224 * 3, 251), 224, 224, 3));
        started = tic();
        A = c.activations('torchvision/squeezenet1_1@random:0', pixels, 'features.0');
        fprintf('Images:   a round trip of one image gave %s values in %.1f s\n', ...
                strjoin(arrayfun(@num2str, size(A), 'UniformOutput', false), ' x '), toc(started));
    catch problem
        fprintf('Images:   %s\n', problem.message);
        return
    end
    fprintf('All works.\n');
    ok = true;
end
