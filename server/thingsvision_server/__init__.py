"""The server of THINGSvision as a service; start it with `thingsvision-server`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

from .allocator import keep_freed_memory, use_expandable_segments
from .threads import keep_threads_over_forks
from .version import server_version

_OLDEST_PYTHON = (3, 11)


def main() -> None:
    """Run the server, or its commands `doctor`, `token` and `endpoints`.

    Say what is missing if only the client is installed, or Python is too old.
    """
    # Else gRPC, once imported, writes a line for each handshake that a stranger does not finish.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if sys.argv[1:] == ["--version"]:
        print(f"thingsvision-server {server_version()}")
        return
    _check_python()
    try:
        run = _prepare(sys.argv[1:])
    except ModuleNotFoundError as error:
        sys.exit(
            f"thingsvision-server: {error.name} is missing, because only the client is installed; "
            "pip install 'thingsvision-service[server]'"
        )
    run()


def _prepare(arguments: list[str]) -> Callable[[], None]:
    """Return what runs the command that the arguments name."""
    if arguments[:1] == ["doctor"]:
        from .start.doctor import main as examine

        return partial(examine, arguments[1:])
    if arguments[:1] == ["token"]:
        from .access.commands import main as run_token_command

        return partial(run_token_command, arguments[1:])
    if arguments[:1] == ["endpoints"]:
        from .cluster.commands import main as keep_endpoints

        return partial(keep_endpoints, arguments[1:])
    return _prepare_server()


def _prepare_server() -> Callable[[], None]:
    """Read and check the settings, prepare the process, and return what serves."""
    from .host import limit_threads, use_share
    from .settings import read_settings
    from .start.checks import check_settings
    from .start.signals import Signals

    settings = read_settings()
    if settings.node_share is not None:
        use_share(settings.node_share)
    check_settings(settings)
    if settings.parent:
        from .parent import stop_with

        stop_with(settings.parent, settings.parent_folder)
    limit_threads(os.environ)
    keep_threads_over_forks(os.environ)
    if settings.device != "cpu":
        use_expandable_segments(os.environ)
    # Libraries start threads while they are imported, and so do the signals: this must come before
    # all of them, or lanes get heaps of 64 MB, and map larger blocks anew for each pass.
    if settings.keep_freed_memory:
        keep_freed_memory()
    signals = Signals()
    signals.listen()
    from .start.process import serve

    return partial(serve, settings, signals)


def _check_python() -> None:
    """End the process with a sentence if this Python is too old."""
    if sys.version_info < _OLDEST_PYTHON:
        oldest, found = (".".join(map(str, v)) for v in (_OLDEST_PYTHON, sys.version_info[:2]))
        sys.exit(
            f"thingsvision-server: the server needs Python {oldest} or newer, and this is "
            f"{found}: make an environment with a newer one, and there pip install "
            "'thingsvision-service[server]'"
        )
