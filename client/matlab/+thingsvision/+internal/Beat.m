classdef Beat < handle
    % BEAT  Notices that the helper has ended: it counts in a file, twice a second.

    properties (Access = private)
        Folder
        Text = ''
        Changed
        Looked
    end

    methods

        function obj = Beat(folder)
            obj.Folder = folder;
            obj.Changed = tic();
            obj.Looked = tic();
        end

        function check(obj, isNeeded, request)
            % CHECK  Raise an error if the helper is needed and has ended.
            if ~isNeeded || toc(obj.Looked) < 0.5
                return
            end
            obj.Looked = tic();
            text = thingsvision.internal.readText(fullfile(obj.Folder, 'beat'));
            if ~strcmp(text, obj.Text)
                obj.Text = text;
                obj.Changed = tic();
            end
            isGone = thingsvision.internal.isGone(obj.Folder);
            if ~isGone && toc(obj.Changed) < 30
                return
            end
            log = thingsvision.internal.readText(fullfile(obj.Folder, 'log'));
            if isGone && exist(request, 'file')
                error('thingsvision:HelperGone', 'The helper process ended before the call.');
            end
            lines = strsplit(strtrim(log), sprintf('\n'));
            if isempty(lines{end})
                lines = {'it wrote nothing about why'};
            end
            error('thingsvision:HelperEnded', ...
                  ['The helper process ended in the middle of the call (%s): call again, a new ', ...
                   'one starts by itself.'], lines{end});
        end

    end
end
