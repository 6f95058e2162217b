"""The HTTP proxy that gRPC would connect through, by the environment's variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from .address import host_of, is_on_this_machine

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCLUDING_VARIABLES = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
"""gRPC reads the first of each that is set, and does not know NO_PROXY."""

_EVERY_ADDRESS = "*"

_direct_addresses: set[str] = set()
"""Servers of this process that are called without a proxy."""


def set_proxy(address: str, proxy: bool) -> None:
    """Have this process call the server at `address` without a proxy, unless `proxy` is True."""
    if proxy:
        _direct_addresses.discard(address)
    else:
        _direct_addresses.add(address)


def leave_out_proxies() -> None:
    """Have this process call every server without a proxy."""
    _direct_addresses.add(_EVERY_ADDRESS)


def may_use_proxy(address: str) -> bool:
    """Return whether `set_proxy` leaves it to the environment if a proxy is used."""
    return _direct_addresses.isdisjoint((address, _EVERY_ADDRESS))


@dataclass(frozen=True)
class Route:
    """How to connect to a server: through the proxy `url` that `variable` names, or directly.

    `excluded_by` says why the proxy is left out, if there is one.
    """

    address: str
    variable: str = ""
    url: str = ""
    excluded_by: str = ""

    @property
    def is_direct(self) -> bool:
        """Whether no proxy takes part."""
        return not self.variable or bool(self.excluded_by)

    @property
    def shown_url(self) -> str:
        """The address of the proxy, without a password."""
        return _without_password(self.url)

    def advice(self) -> str:
        """Return a sentence for a connection that failed; empty if the environment has no proxy."""
        if not self.variable:
            return ""
        if self.is_direct:
            return f"The proxy of {self.variable} was not used: {self.excluded_by}."
        excluded = ",".join(filter(None, (os.environ.get("no_proxy"), host_of(self.address))))
        return (
            f"The connection goes through the proxy {self.shown_url}, "
            f"because the environment variable {self.variable} is set. If the server can be "
            "reached without it, call "
            f"thingsvision_client.connect({self.address!r}, proxy=False), which sets gRPC's option "
            "grpc.enable_http_proxy=0 (in a shell --no-proxy), or add the host to "
            f"no_proxy: export no_proxy='{excluded}'"
        )


def find_route(address: str, *, proxy: bool) -> Route:
    """Return how to connect to `address`; `proxy` False ignores the environment's proxies."""
    variable = next((name for name in _PROXY_VARIABLES if os.environ.get(name)), "")
    if not variable:
        return Route(address)
    excluded_by = _exclusion(address) if proxy else "proxy=False says so"
    return Route(address, variable, os.environ[variable], excluded_by)


def _exclusion(address: str) -> str:
    """Return why no proxy can or should connect to `address`, or an empty text."""
    host = host_of(address)
    if is_on_this_machine(address):
        return "the server is on this machine"
    for name in _EXCLUDING_VARIABLES:
        if any(_covers(entry, host) for entry in _entries(os.environ.get(name, ""))):
            return f"{name} covers {host}"
    return ""


def _entries(excluded: str) -> Iterator[str]:
    for entry in excluded.replace(";", ",").replace(" ", ",").split(","):
        if entry:
            yield entry


def _covers(entry: str, host: str) -> bool:
    """Return whether an entry of no_proxy covers `host`: a name, a domain, addresses, or `*`."""
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name = entry.split(":")[0].lower()
    return name == "*" or (bool(name) and host.lower().rstrip(".").endswith(name.lstrip("*")))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else url
