"""PyTorch networks: how they are built, tapped and run."""
