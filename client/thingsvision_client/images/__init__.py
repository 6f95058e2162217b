"""Images, texts and tensors on their way to a server: found, ordered and read, never decoded."""
