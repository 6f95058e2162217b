"""The source of self-supervised networks, and the layouts of their published files."""
