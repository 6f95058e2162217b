"""The version of this server."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def server_version() -> str:
    """Return the version of this server."""
    return version("thingsvision-service")
