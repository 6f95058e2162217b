"""Servers that share a folder: who is alive, who uses which file, and what the dead left."""
