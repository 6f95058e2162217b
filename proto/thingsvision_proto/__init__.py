"""What server and client share: the contract's stubs and the wire format; nothing else."""
