"""Sources whose networks are those of the library `transformers`."""
