function removeFolder(folder)
    % REMOVEFOLDER  Remove a private folder with the files in it.
    if ~exist(folder, 'dir')
        return
    end
    delete(fullfile(folder, '*'));
    rmdir(folder);
end
