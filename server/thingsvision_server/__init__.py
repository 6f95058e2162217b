"""The server of THINGSvision as a service; start it with `thingsvision-server`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the server; where only the client is installed, say what is missing."""
    try:
        from .__main__ import main as serve
    except ModuleNotFoundError as error:
        sys.exit(
            f"thingsvision-server: {error.name} is missing, because only the client is installed; "
            "pip install 'thingsvision-service[server]'"
        )
    serve()
