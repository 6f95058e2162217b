"""The commands of the command line: a few calls of `Client` each, with files at the end."""
