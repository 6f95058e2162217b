"""gRPC at the edge: messages in and out, errors to status; the only place that knows the wire."""
