function request = withNames(request, own)
    % WITHNAMES  Put the user's names of pixels into a request.
    if ~isfield(own, 'Names')
        return
    end
    if ~strcmp(request.images.kind, 'pixels')
        error('thingsvision:InvalidRequest', ...
              '''Names'' is for images that are given as pixels; files have names.');
    end
    request.images.names = thingsvision.internal.texts(own.Names, 'Names');
end
