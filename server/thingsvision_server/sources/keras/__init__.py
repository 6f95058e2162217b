"""Sources whose networks are classes of Keras."""
