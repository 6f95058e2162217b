"""How images and texts become inputs, as data and as code of the model's own library."""
