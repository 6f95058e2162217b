"""What sources of PyTorch networks share: names, weights, modules, loads."""
