"""The library of the paper, THINGSvision 1.x, under its own names."""
