"""The server of THINGSvision as a service; start it with `thingsvision-server`."""

from __future__ import annotations

import sys

from .allocator import keep_freed_memory
from .version import server_version

_OLDEST_PYTHON = (3, 11)


def main() -> None:
    """Run the server; say what is missing if only the client is installed, or Python is too old."""
    if sys.argv[1:] == ["--version"]:
        print(f"thingsvision-server {server_version()}")
        return
    if sys.version_info < _OLDEST_PYTHON:
        oldest, found = (".".join(map(str, v)) for v in (_OLDEST_PYTHON, sys.version_info[:2]))
        sys.exit(
            f"thingsvision-server: the server needs Python {oldest} or newer, and this is "
            f"{found}: make an environment with a newer one, and there pip install "
            "'thingsvision-service[server]'"
        )
    try:
        from .settings import read_settings

        settings = read_settings()
        if settings.parent:
            from .parent import stop_with

            stop_with(settings.parent, settings.parent_log)
        # Libraries start threads while they are imported: this must come before all of them.
        if settings.keep_freed_memory:
            keep_freed_memory()
        from .wiring import main as serve
    except ModuleNotFoundError as error:
        sys.exit(
            f"thingsvision-server: {error.name} is missing, because only the client is installed; "
            "pip install 'thingsvision-service[server]'"
        )
    serve(settings)
