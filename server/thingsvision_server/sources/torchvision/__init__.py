"""Models of torchvision, found by reflection."""
