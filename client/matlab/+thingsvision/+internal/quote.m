function text = quote(text)
    % QUOTE  A text in single quotes, for a shell of Unix.
    text = ['''' strrep(text, '''', '''"''"''') ''''];
end
