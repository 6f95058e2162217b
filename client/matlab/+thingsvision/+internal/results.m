function [A, info] = results(reply, request)
    % RESULTS  Arrays of a reply: one array, or a struct of them; and what is known of them.
    [A, info] = thingsvision.internal.arrays(reply);
    found = reply.result;
    info.axes = thingsvision.internal.lists(found.axes, ' ');
    info.batchSize = found.batch_size;
    info.tokenExtraction = found.token_extraction;
    info.unitIndex = cell(numel(info.modules), 1);
    if request.flatten || strcmp(request.output_as, 'rows')
        for k = 1:numel(info.modules)
            info.unitIndex{k} = thingsvision.internal.unitIndex(reply.columns{k});
        end
    end
    if numel(info.modules) == 1
        info.unitIndex = info.unitIndex{1};
        info.axes = info.axes{1};
    end
end
