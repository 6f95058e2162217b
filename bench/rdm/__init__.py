"""Columns that compute an RDM of given features: one file and one process each."""
