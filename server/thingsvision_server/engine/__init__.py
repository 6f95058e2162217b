"""What a request needs done: models kept warm, images batched, activations and RDMs computed."""
