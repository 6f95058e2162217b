"""The source of self-supervised networks, and the conversion of their published files."""
