"""The address that a server announces: what others reach it by, as a number, never as a name.

Gateways balance over addresses, and name a server by its address: a name could mean another
machine tomorrow.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ..errors import PreconditionError

SOCKET = "unix:"
_MOST_PORT = 65_535
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")


@dataclass(frozen=True)
class Endpoint:
    """Where a server is reached: an IP address and a port, or the path of a socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only programs on the same machine reach it."""
        return bool(self.path) or ip_address(self.host).is_loopback

    def __str__(self) -> str:
        if self.path:
            return f"{SOCKET}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that an announcement names. Raises ValueError if it is not one."""
    if text.startswith(SOCKET):
        path = text.removeprefix(SOCKET)
        if not path.startswith("/"):
            raise ValueError(f"a socket must be unix:/PATH, got {text!r}")
        return Endpoint(path=path)
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) <= _MOST_PORT):
        raise ValueError(f"an address must be IP:PORT, got {text!r}")
    address = ip_address(host.removeprefix("[").removesuffix("]"))
    if isinstance(address, IPv6Address) is not host.startswith("["):
        raise ValueError(f"an address must be IPv4:PORT or [IPv6]:PORT, got {text!r}")
    return Endpoint(str(address), int(port))


def split_host(text: str) -> tuple[str, int]:
    """Return the host and the port of HOST[:PORT]; port 0 if there is none.

    An IPv6 address with a port has brackets. Raises PreconditionError.
    """
    if _is_ip(text.strip("[]")):
        return text.strip("[]"), 0
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    is_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) <= _MOST_PORT)
    if not host or not is_port or (":" in host and not _is_ip(host.strip("[]"))):
        raise PreconditionError(
            f"--announce-address must be HOST or HOST:PORT ([::1]:50051 for IPv6), got {text!r}"
        )
    return host.strip("[]"), int(port or 0)


def reachable_host(host: str, announced: str = "") -> str:
    """Return the IP address by which others reach a server that listens on `host`.

    If it listens on all addresses, it is the address of this machine's name; `announced` is what
    the operator says. Raises PreconditionError if there is none.
    """
    if announced:
        found = _resolve(announced, "--announce-address")
        if found.is_unspecified:
            raise PreconditionError(
                f"--announce-address must be an address that others reach, got {announced!r}"
            )
        return str(found)
    found = _resolve(host, "--host")
    if not found.is_unspecified:
        return str(found)
    name = socket.gethostname()
    advice = f"--host {host} is all addresses, so --announce-address must say by which others come"
    try:
        found = _resolve(name, "the name of this machine")
    except PreconditionError as error:
        raise PreconditionError(f"{advice}: {error}") from error
    if found.is_loopback:
        raise PreconditionError(
            f"{advice}: the name of this machine, {name!r}, is {found}, which only this machine "
            "reaches"
        )
    return str(found)


def own_network() -> str:
    """Return what is the same for programs that reach each other by 127.0.0.1, and differs else."""
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_NETWORK.stat().st_ino}"
    except OSError:  # not on Linux
        return socket.gethostname()


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _resolve(host: str, what: str) -> IPv4Address | IPv6Address:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a name"
        raise PreconditionError(f"{what} must be a host, got {host!r}: {reason}") from error
    return ip_address(str(found[0][4][0]).partition("%")[0])
