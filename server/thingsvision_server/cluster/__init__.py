"""Servers that announce themselves in a folder: who there is, and what gateways are told of it."""
