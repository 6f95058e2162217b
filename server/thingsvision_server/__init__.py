"""The server of THINGSvision as a service; start it with `thingsvision-server`."""

from __future__ import annotations

import sys
from importlib.metadata import version

from .allocator import keep_freed_memory


def main() -> None:
    """Run the server; if only the client is installed, say what is missing."""
    if sys.argv[1:] == ["--version"]:
        print(f"thingsvision-server {version('thingsvision-service')}")
        return
    try:
        from .settings import read_settings

        settings = read_settings()
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
