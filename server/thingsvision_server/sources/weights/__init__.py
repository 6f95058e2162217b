"""Files of weights: finding, downloading, reading and loading them."""
