function answer = isGone(folder)
    % ISGONE  Whether the helper of a folder has ended.
    answer = ~exist(folder, 'dir') || exist(fullfile(folder, 'ended'), 'file') == 2;
end
