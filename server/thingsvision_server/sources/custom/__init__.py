"""Model families, each a source of its own, that the source `custom` offers together."""
