"""How images and texts become inputs: as data, and as transforms of the libraries."""
