"""Shared by server and client: the contract's stubs and the wire format."""
