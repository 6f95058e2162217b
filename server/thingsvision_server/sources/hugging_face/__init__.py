"""The source of checkpoints of the library `transformers`, and what `custom` reuses of it."""
