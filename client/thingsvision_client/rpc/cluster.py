"""Calls for one server of a cluster, or for each of them: through the gateway, or directly."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

from ..errors import InvalidRequestError, ThingsvisionError, UnavailableError, WrongServerError
from ..values.records import Residency
from .call import Caller
from .connection import Connection

T = TypeVar("T")

_MOST_AT_ONCE = 16

ALL = "all"
"""What stands for all servers of a cluster."""

Call: TypeAlias = Callable[[Caller, Any], T]
"""Makes a call with a caller and the stub of ModelService."""


def find_server(residency: Residency, on: str) -> str:
    """Return the address of the server that `on` names: its address, or its machine's name.

    Empty for the only server, if it is not announced. Raises InvalidRequestError.
    """
    servers = residency.servers
    found = [one for one in servers if on in (one.address, one.host_name)]
    if len(found) == 1:
        return found[0].address
    if found:
        choices = ", ".join(one.address for one in found)
        raise InvalidRequestError(
            f"`on` must name one server, got {on!r}, a machine with {len(found)}: {choices}.",
            field="on",
            subject=on,
        )
    names = ", ".join(one.address for one in servers if one.address) or "none, as none is announced"
    raise InvalidRequestError(
        f"`on` must be {ALL!r} or the address of a server of the cluster, got {on!r}. Servers: "
        f"{names}.",
        field="on",
        subject=on,
    )


def serving_addresses(residency: Residency) -> list[str]:
    """Return the addresses of the servers that take calls; empty for one that tells of none."""
    if not residency.servers:  # it is older
        return [""]
    return [one.address for one in residency.servers if one.state == "serving"]


def call_server(connection: Connection, address: str, call: Call[T]) -> T:
    """Make a call to one server of the cluster that `connection` leads to.

    A gateway routes it there by its metadata. A server that is reached instead refuses it: then
    there is no such gateway, and the server is called directly, by the address that it announces.
    """
    if not address:
        return call(connection.caller, connection.stubs.models)
    try:
        return call(replace(connection.caller, destination=address), connection.stubs.models)
    except WrongServerError:
        direct = connection.to(address)
    try:
        return call(replace(direct.caller, destination=address), direct.stubs.models)
    except UnavailableError as error:
        raise error.with_text(
            f"It was called directly, because {connection.address} is not a gateway that routes "
            "by x-thingsvision-server."
        ) from error
    finally:
        direct.close()


def call_servers(
    connection: Connection,
    addresses: list[str],
    call: Call[T],
    *,
    ignored: type[ThingsvisionError] | None = None,
) -> list[T]:
    """Make a call to each of some servers, and return what they answer.

    A server's error does not keep the others from being called; then the first error is raised,
    which says what was done. An error `ignored` counts as no answer, unless there is no other.
    """
    found = _ask_all(connection, addresses, call)
    failures = {key: one for key, one in found.items() if isinstance(one, ThingsvisionError)}
    answers = {key: one for key, one in found.items() if not isinstance(one, ThingsvisionError)}
    if ignored is not None and answers:
        failures = {key: one for key, one in failures.items() if not isinstance(one, ignored)}
    if not failures:
        return list(answers.values())
    first = next(iter(failures.values()))
    if len(addresses) == 1:
        raise first
    others = "; ".join(f"{key}: {one}" for key, one in [*failures.items()][1:])
    text = (
        f"That is what {next(iter(failures))} says."
        + (f" Others failed, too: {others}" if others else "")
        + f" Done on: {', '.join(answers) or 'none'}."
    )
    raise first.with_text(text) from first


def _ask_all(
    connection: Connection, addresses: list[str], call: Call[T]
) -> dict[str, T | ThingsvisionError]:
    """Make a call to each of some servers at once, and return what each answers, or its error."""

    def ask(address: str) -> T | ThingsvisionError:
        try:
            return call_server(connection, address, call)
        except ThingsvisionError as error:
            return error

    # A trace of the caller's has these calls, too.
    tasks = [partial(copy_context().run, ask, address) for address in addresses]
    with ThreadPoolExecutor(min(len(addresses), _MOST_AT_ONCE), "servers") as threads:
        asked = [threads.submit(task) for task in tasks]
    return {address: one.result() for address, one in zip(addresses, asked, strict=True)}
