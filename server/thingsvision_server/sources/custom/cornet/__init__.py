"""The family of CORnet: its source and its networks."""
