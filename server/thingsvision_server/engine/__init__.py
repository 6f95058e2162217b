"""Does what requests ask for: loads models, batches images, computes features, RDMs and PCAs."""
