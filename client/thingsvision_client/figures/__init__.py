"""Figures of RDMs: canvas, lettering, thumbnails and the grid; matplotlib loads when needed."""
