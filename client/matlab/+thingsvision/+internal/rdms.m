function [D, info] = rdms(reply, request)
    % RDMS  RDMs of a reply, and what is known of them.
    [D, info] = thingsvision.internal.arrays(reply);
    info.metric = reply.result.metric;
    info.form = request.form;
    info.undefined = thingsvision.internal.lists(reply.result.undefined, sprintf('\n'));
    info.arithmetic = thingsvision.internal.list(reply.result.arithmetic);
    if numel(info.modules) == 1
        info.undefined = info.undefined{1};
        info.arithmetic = info.arithmetic{1};
    end
end
