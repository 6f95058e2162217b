"""Converts between the contract's messages and the types of the engine and the sources."""
