"""One backend per framework: runs a network and reads the outputs of its modules."""
