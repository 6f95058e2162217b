"""Spells options, sizes and addresses, for errors and the log."""

from __future__ import annotations

from pydantic import ByteSize


def listening_address(host: str, port: int) -> str:
    """Return host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def flag_of(option: str) -> str:
    """Return an option as it is written on the command line."""
    return f"--{option.replace('_', '-')}"


def size_of(count: int) -> str:
    """Return a number of bytes for people, such as 23.5GiB."""
    return ByteSize(count).human_readable()


def too_much(option: str, wanted_bytes: int, total_bytes: int, owner: str = "") -> str:
    """Return the sentence about a budget above the memory, which is the host's by default."""
    memory = f"the memory of {owner}" if owner else "the memory that this server may use"
    return (
        f"{flag_of(option)} must be at most {size_of(total_bytes)}, {memory}, "
        f"got {size_of(wanted_bytes)}"
    )
