"""The source `own`: complete models that users uploaded, one module per format."""
