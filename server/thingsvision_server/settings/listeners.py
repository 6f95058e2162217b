"""The rules of where the server listens: what other machines and users reach must ask who calls."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from .options import Settings
from .sentences import flag_of

_MOST_SOCKET_BYTES = 107
"""What Linux takes as the path of a socket; macOS takes 103."""

_TOGETHER = (("tls_cert", "tls_key"), ("mtls_port", "client_ca"))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a listener on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def socket_path(settings: Settings) -> Path | None:
    """Return the path of the server's socket, absolute; None without a socket."""
    return None if settings.unix is None else settings.unix.expanduser().absolute()


def find_listening_mistakes(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each thing that would let in people whom the operator does not mean."""
    for first, second in _TOGETHER:
        if (getattr(settings, first) is None) is not (getattr(settings, second) is None):
            yield f"{flag_of(first)} and {flag_of(second)} must be given together"
    if settings.mtls_port is not None and settings.tls_cert is None:
        yield "--mtls-port needs --tls-cert and --tls-key"
    if settings.tcp and not settings.insecure and not is_loopback(settings.host):
        missing = [name for name in ("tls_cert", "tokens") if getattr(settings, name) is None]
        flags = " and ".join(map(flag_of, missing))
        if missing:
            yield (
                f"--host {settings.host} lets other machines in, so {flags} must be given; or "
                "--insecure, if everybody who reaches the server may do all that it can, "
                "unencrypted (--host 127.0.0.1 and an SSH tunnel need neither)"
            )
    if settings.unix_gateway and (settings.unix is None or settings.tokens is None):
        yield "--unix-gateway needs --unix and --tokens: a gateway says who calls, by these"
    yield from _check_socket(settings)


def _check_socket(settings: Settings) -> Iterator[str]:
    path = socket_path(settings)
    if path is None:
        return
    if os.name != "posix":
        yield "--unix is not there on Windows: use --port"
        return
    if len(os.fsencode(path)) > _MOST_SOCKET_BYTES:
        yield f"--unix must be a path of at most {_MOST_SOCKET_BYTES} bytes, got {str(path)!r}"
        return
    try:
        # The folder decides who may come: made for one person.
        path.parent.mkdir(mode=0o700, exist_ok=True)
        mode = path.parent.stat().st_mode
    except OSError as error:
        yield f"--unix must be in a folder that can be made, got {str(path)!r}: {error.strerror}"
        return
    if not settings.insecure and (fault := _folder_fault(settings, mode)):
        yield f"the folder of --unix, {path.parent}, {fault}"


def _folder_fault(settings: Settings, mode: int) -> str:
    """Return what is wrong with the permissions of the socket's folder; empty if nothing is."""
    shown = f"{stat.S_IMODE(mode):04o}"
    if settings.unix_gateway and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"must be the gateway's alone, got {shown}: chmod 700 it"
    if settings.tokens is None and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return (
            f"must be open to one person alone (0700), got {shown}: chmod 700 it, or give --tokens "
            "and chmod 750 it for a group"
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"must not be writable by others, who could put their own socket there, got {shown}"
    return ""
