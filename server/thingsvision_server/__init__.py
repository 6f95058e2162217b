"""The server of THINGSvision as a service; start it with `thingsvision-server`."""

from __future__ import annotations

import sys
from importlib.metadata import version

from .allocator import keep_freed_memory


def main() -> None:
    """Run the server; where only the client is installed, say what is missing."""
    if sys.argv[1:] == ["--version"]:
        print(f"thingsvision-server {version('thingsvision-service')}")
        return
    # Libraries start threads while they are imported, so this comes before all of them.
    keep_freed_memory()
    try:
        from .wiring import main as serve
    except ModuleNotFoundError as error:
        sys.exit(
            f"thingsvision-server: {error.name} is missing, because only the client is installed; "
            "pip install 'thingsvision-service[server]'"
        )
    serve()
