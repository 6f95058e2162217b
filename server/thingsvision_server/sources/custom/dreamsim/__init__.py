"""The family of DreamSim: its source, its published files, and its networks."""
