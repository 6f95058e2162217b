"""Measures several servers behind a gateway, and what many servers cost the gateway."""
