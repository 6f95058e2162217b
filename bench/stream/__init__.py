"""Columns that move early-layer activations from one process to another: one file each."""
