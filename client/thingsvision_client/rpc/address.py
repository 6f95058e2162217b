"""The address of a server: what it may look like, and where it comes from."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address, ip_address

from ..errors import NoServerError

SERVER_VARIABLE = "THINGSVISION_SERVER"

HOW_TO_NAME = (
    f"set {SERVER_VARIABLE}=host:port, pass server='host:port', or call "
    "thingsvision_client.connect('host:port'); `thingsvision-server` starts one, and so does "
    "thingsvision_client.local_server() from Python"
)
_SOCKET = re.compile(r"unix:(///)?[^/\s].*|unix:/[^/\s].*|unix-abstract:\S.*")
_SCHEME = re.compile(r"dns:(//[^/\s]*/)?|ipv4:|ipv6:")
"""What gRPC takes before host:port; `dns://10.0.0.2/host:port` asks that name server."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_MOST_PORT = 65_535
DEFAULT_PORT = 50_051
"""The port that a server listens on unless it is told another, and of an address without a port."""

_WEB_SCHEME = re.compile(r"(?:http|grpc|tcp)://", re.IGNORECASE)
"""What people copy from a browser or from another tool; the rest is the address."""

_TLS_SCHEME = re.compile(r"(?:https|grpcs)://", re.IGNORECASE)
TLS_PREFIX = "grpcs://"
"""What stands before the address of a server that encrypts."""

_default_address = ""


def set_default_address(address: str) -> str:
    """Make `address` (host:port) the server of every later call of this process, and return it."""
    global _default_address
    _default_address = check_address(address)
    return _default_address


def replace_default_address(address: str, *, only_if: str | None = None) -> str:
    """Make a checked address, or "" for none, the default, and return the default before.

    Nothing is changed if the default is not `only_if`.
    """
    global _default_address
    earlier = _default_address
    if only_if is None or only_if == earlier:
        _default_address = address
    return earlier


def resolve_address(server: str | None = None) -> str:
    """Return the address to call: the argument, else the process default, else the environment.

    Raises NoServerError if none of them is set, or the address can't be one.
    """
    address = server or _default_address or os.environ.get(SERVER_VARIABLE, "")
    if not address:
        raise NoServerError(f"No THINGSvision server is set: {HOW_TO_NAME}.")
    return check_address(address)


def check_address(address: str) -> str:
    """Return `address` as gRPC takes it: host:port, or the file of a socket.

    Blanks around it, `http://`, `grpc://` or `tcp://` before it and a `/` at its end are left out;
    an address without a port gets port 50051. `grpcs://` stays before the address of a server that
    encrypts, and `https://` becomes `grpcs://`. Raises NoServerError if it is neither host:port nor
    the file of a socket (`unix:/run/thingsvision.sock`): gRPC would dial another port, or look for
    a host of that name.
    """
    found = address.strip() if isinstance(address, str) else repr(address)
    prefix = ""
    if scheme := _TLS_SCHEME.match(found):
        prefix, found = TLS_PREFIX, found[scheme.end() :].removesuffix("/")
    else:
        found = _without_web_scheme(found)
    if _SOCKET.fullmatch(found) and not prefix:
        return found
    found = _with_port(found) if isinstance(address, str) else found
    if fault := _fault(_location(found)):
        raise NoServerError(
            f"The address of a server must be host:port, got {address!r} ({fault}): {HOW_TO_NAME}."
        )
    return prefix + found


def _without_web_scheme(text: str) -> str:
    scheme = _WEB_SCHEME.match(text)
    return text[scheme.end() :].removesuffix("/") if scheme else text


def _with_port(text: str) -> str:
    """Return a host with the default port; any other text as it is."""
    host = _location(text)
    is_name = _HOST_NAME.fullmatch(host) is not None and not host.isdigit()
    return f"{text}:{DEFAULT_PORT}" if is_name or _is_bracketed(host) else text


def with_tls(address: str) -> str:
    """Return a checked address as the address of a server that encrypts.

    Raises NoServerError for the file of a socket.
    """
    if _SOCKET.fullmatch(address):
        raise NoServerError(
            f"A socket on this machine is not encrypted, got {address!r} with ca= or cert=: leave "
            "them out."
        )
    return address if is_encrypted(address) else TLS_PREFIX + address


def is_encrypted(address: str) -> bool:
    """Return whether a checked address is that of a server that encrypts."""
    return address.startswith(TLS_PREFIX)


def target_of(address: str) -> str:
    """Return what gRPC dials for a checked address."""
    return address.removeprefix(TLS_PREFIX)


def is_on_this_machine(address: str) -> bool:
    """Return whether a checked address can only be a server on this machine."""
    host = host_of(address)
    if host.lower().rstrip(".") == "localhost":
        # `dns://10.0.0.2/localhost` is what that name server says.
        return re.match("dns://[^/]", target_of(address)) is None
    if not host:
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    return found.is_loopback or found.is_unspecified


def host_of(address: str) -> str:
    """Return the host of a checked address, without brackets; empty for the file of a socket."""
    if _SOCKET.fullmatch(address):
        return ""
    return _location(address).rpartition(":")[0].strip("[]")


def _location(address: str) -> str:
    address = target_of(address)
    scheme = _SCHEME.match(address)
    return address[scheme.end() :] if scheme else address


def _fault(location: str) -> str:
    """Return why `location` is not host:port, or an empty text."""
    host, colon, port = location.rpartition(":")
    if location.startswith(("unix:", "unix-abstract:")):
        return "the file of a socket is unix:PATH"
    if web := re.match(r"[A-Za-z]+://", location):
        return f"leave out {web[0]!r}, and what follows the port"
    if "/" in location:
        return "leave out what follows the port"
    if re.fullmatch("[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,}", location):
        return "an IPv6 address needs brackets: '[::1]:50051'"
    if location.isdigit():
        return f"it has no host: 'localhost:{location}'"
    if not colon or location.endswith("]"):
        return "it has no port" if location else "it is empty"
    if not (re.fullmatch("[0-9]{1,9}", port) and 1 <= int(port) <= _MOST_PORT):
        return f"a port is a number from 1 to {_MOST_PORT:,}"
    if not host:
        return "it has no host"
    return "" if _is_host(host) else "this can't be the name of a host"


def _is_host(host: str) -> bool:
    return _HOST_NAME.fullmatch(host) is not None or _is_bracketed(host)


def _is_bracketed(host: str) -> bool:
    """Return whether `host` is an IPv6 address in brackets."""
    if not (host.startswith("[") and host.endswith("]")):
        return False
    try:
        IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True
