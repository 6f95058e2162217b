"""All of gRPC: channels, calls, statuses, and a module per method of the server."""
