"""Columns that extract features of images: one file and one process each."""
