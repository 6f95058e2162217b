"""Columns that extract features of images: a file each, a process each."""
