"""The source of whole models that users uploaded, by format."""
