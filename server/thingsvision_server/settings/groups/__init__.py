"""The options of the server in groups, by what they are about."""
