"""Columns that compute an RDM of ready features: a file each, a process each."""
