function [A, info] = arrays(reply)
    % ARRAYS  The arrays of a reply: one array, or a struct with a field for each.
    columns = reply.columns;
    count = numel(columns);
    info = struct();
    info.images = thingsvision.internal.list(reply.result.images);
    info.skipped = thingsvision.internal.records(reply.result.skipped);
    info.modules = cellfun(@(column) column.module, columns(:), 'UniformOutput', false);
    info.fields = cellfun(@(column) column.field, columns(:), 'UniformOutput', false);
    info.provenanceText = reply.result.provenance;
    info.provenance = jsondecode(reply.result.provenance);
    if count == 1
        A = reply.arrays{1};
        return
    end
    A = struct();
    for k = 1:count
        A.(columns{k}.field) = reply.arrays{k};
    end
end
