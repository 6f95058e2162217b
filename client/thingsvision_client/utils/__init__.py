"""Datasets in and features out, on the user's machine."""
