"""The commands of the command line: each is a few calls of `Client`, with files at the end."""
