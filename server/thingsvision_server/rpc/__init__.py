"""gRPC at the edge: messages in and out, and errors turned into statuses."""
