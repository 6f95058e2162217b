"""Starts the command line, without gRPC's own lines on stderr."""

from __future__ import annotations

import os


def main() -> None:
    """Run `thingsvision-client`."""
    # gRPC reads it when it is imported. Else it writes a line for each handshake that fails, and
    # the sentence that says why is lost among them.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from .cli import main as run

    run()
