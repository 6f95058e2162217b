function path = packageToolbox(version)
    % PACKAGETOOLBOX  Make thingsvision.mltbx, which installs with a double click from R2021a on.
    %
    %   path = packageToolbox('0.1.0') needs MATLAB R2023a or newer; run it in this folder.
    here = fileparts(mfilename('fullpath'));
    staging = tempname();
    mkdir(staging);
    removing = onCleanup(@() rmdir(staging, 's'));
    copyfile(fullfile(here, '+thingsvision'), fullfile(staging, '+thingsvision'));
    copyfile(fullfile(here, '..', '..', 'LICENSE'), staging);
    % The same identifier in every version, so that a new one replaces the last.
    identifier = 'a3b64f0e-6f5c-4c0b-9d6a-7d1f6e0c52b1';
    options = matlab.addons.toolbox.ToolboxOptions(staging, identifier);
    options.ToolboxName = 'THINGSvision';
    options.ToolboxVersion = version;
    options.Summary = 'Activations of vision networks, and RDMs of them, from a server.';
    options.MinimumMatlabRelease = 'R2021a';
    options.ToolboxMatlabPath = staging;
    path = fullfile(here, 'thingsvision.mltbx');
    options.OutputFile = path;
    matlab.addons.toolbox.packageToolbox(options);
end
