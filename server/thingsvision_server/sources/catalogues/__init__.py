"""Model sources over catalogues of PyTorch networks."""
