function value = readJson(path)
    % READJSON  The value of a JSON file.
    value = jsondecode(thingsvision.internal.readText(path));
end
