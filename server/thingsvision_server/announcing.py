"""What a server announces of itself, and where, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .cluster.addresses import Endpoint, parse_endpoint, reachable_host, split_host
from .cluster.announcer import Announcer
from .cluster.folder import folder_doubts, folder_fault, make_folder
from .cluster.membership import Membership
from .errors import PreconditionError
from .settings import Settings
from .settings.listeners import socket_path

_LAME_DUCK_SECONDS = 5.0
"""How long a gateway takes to see that a server drains, with room for a slow folder."""


def announce_folder(settings: Settings) -> Path | None:
    """Return the folder of announcements, absolute; None without."""
    return settings.announce_dir and settings.announce_dir.expanduser().absolute()


def lame_duck_seconds(settings: Settings) -> float:
    """Return how long the server still takes calls after it has said that it drains."""
    if settings.lame_duck_seconds is not None:
        return settings.lame_duck_seconds
    return 0.0 if settings.announce_dir is None else _LAME_DUCK_SECONDS


def make_announcer(
    settings: Settings,
    membership: Membership,
    describe: Callable[[], Mapping[str, Any]],
    addresses: Sequence[str],
    *,
    metrics_port: int,
) -> Announcer | None:
    """Return what announces a server that listens on these addresses; None if it is not wanted.

    `metrics_port` is where its page of metrics is, 0 without a page.

    From now on the membership has the server's address. Raises PreconditionError.
    """
    folder = announce_folder(settings)
    if folder is None:
        return None
    endpoint = announced_endpoint(settings, addresses)
    membership.address = str(endpoint)
    return Announcer(
        folder, membership, describe, metrics=_metrics(settings, endpoint, metrics_port)
    )


def announced_endpoint(settings: Settings, addresses: Sequence[str]) -> Endpoint:
    """Return where gateways reach the server: by mutual TLS or their own socket if there is one.

    `addresses` are what it listens on, in the order of its listeners. Raises PreconditionError.
    """
    ways = dict(zip(_ways(settings), addresses, strict=True))
    found = ways[_chosen_way(settings)]
    if found.startswith("unix:"):
        return parse_endpoint(found)
    named, port = split_host(settings.announce_address) if settings.announce_address else ("", 0)
    host = reachable_host(settings.host, named)
    return Endpoint(host, port or int(found.rpartition(":")[2]))


def check_announcing(settings: Settings) -> None:
    """Raise PreconditionError if the server can't announce itself safely."""
    if mistakes := list(find_announcing_mistakes(settings)):
        raise PreconditionError("; ".join(mistakes))


def find_announcing_mistakes(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each thing that keeps the server from announcing itself safely."""
    folder = announce_folder(settings)
    if folder is None:
        if settings.announce_address is not None:
            yield "--announce-address needs --announce-dir"
        return
    yield from _check_folder(folder, settings)
    if _chosen_way(settings) == "unix":
        if settings.announce_address is not None:
            yield "--announce-address needs --port or --mtls-port: a socket has no such address"
        return
    try:
        announced_endpoint(settings, [":1" for _ in _ways(settings)])
    except PreconditionError as error:
        yield str(error)


def find_announcing_doubts(settings: Settings) -> Iterator[str]:
    """Yield who else may write where the server announces itself."""
    folder = announce_folder(settings)
    for doubt in folder_doubts(folder) if folder else ():
        yield f"--announce-dir: {doubt}: whoever writes there can say that servers are elsewhere"


def _check_folder(folder: Path, settings: Settings) -> Iterator[str]:
    try:
        make_folder(folder)
        fault, doubts = folder_fault(folder), [*folder_doubts(folder)]
    except OSError as error:
        yield f"--announce-dir must be a folder, got {str(folder)!r}: {error.strerror}"
        return
    if fault:
        yield f"--announce-dir can't be used: {fault}"
    elif doubts and settings.tls_cert is None:
        yield (
            f"--announce-dir can't be used: {doubts[0]}, and could receive users' requests; make "
            "it this user's alone to write (chmod g-w), or give --tls-cert, so that gateways can "
            "check servers' names"
        )


def _ways(settings: Settings) -> list[str]:
    """Return how the server is reached, in the order of its listeners."""
    ways = {
        "tcp": settings.tcp,
        "mtls": settings.mtls_port is not None,
        "unix": socket_path(settings) is not None,
    }
    return [name for name, is_there in ways.items() if is_there]


def _chosen_way(settings: Settings) -> str:
    preferred = ("mtls", *(("unix",) if settings.unix_gateway else ()), "tcp", "unix")
    found: str = next(way for way in preferred if way in _ways(settings))
    return found


def _metrics(settings: Settings, endpoint: Endpoint, port: int) -> str:
    """Return where Prometheus finds the page of metrics; empty if there is none."""
    if not port:
        return ""
    is_everywhere = settings.metrics_host.strip("[]") in ("0.0.0.0", "::")  # noqa: S104
    if is_everywhere and settings.announce_address is not None and not endpoint.path:
        return str(Endpoint(endpoint.host, port))
    try:
        host = reachable_host(settings.metrics_host, "")
    except PreconditionError:  # all addresses, of which the announced is one
        if endpoint.path:
            return ""
        host = endpoint.host
    return str(Endpoint(host, port))
