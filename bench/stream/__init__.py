"""Columns that move early-layer activations from one process to another: a file each."""
