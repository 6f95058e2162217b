"""Checks and measures everything on a device, in one run: `scripts/gpu`."""
