"""The version of this package, and which of two versions is older."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


@cache
def client_version() -> str:
    """Return the version of this package; empty where it is not installed."""
    try:
        return version("thingsvision-service")
    except PackageNotFoundError:
        return ""


def age_text(server: str) -> str:
    """Return sentences on which is older, this client or a server, and what to update.

    `server` is the version that the server tells; empty if it tells none.
    """
    own = client_version()
    if not server:
        return f"The server is older than this client ({own}): update the server."
    ages = _numbers(server), _numbers(own)
    if ages[0] < ages[1]:
        return f"The server ({server}) is older than this client ({own}): update the server."
    if ages[0] > ages[1]:
        return f"This client ({own}) is older than the server ({server}): update the client."
    return (
        f"The server's version and this client's are the same ({own}), but their code is not: "
        "install the same build on both sides."
    )


def _numbers(text: str) -> tuple[int, ...]:
    found = _NUMBERS.match(text)
    return tuple(int(number) for number in found[0].split(".")) if found else ()
