"""Files of weights: where they lie, how they are read, and what does not fit."""
