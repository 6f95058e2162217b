"""Stops a server when the process that needs it has ended, even by a signal that it can't catch."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10


def stop_with(process_id: int, folder: str = "") -> None:
    """Stop this process soon after another has ended: at once if there is none.

    Then it also deletes the folder of its log and its socket, as the other process would have done.
    Called before libraries are imported, so that a server that is starting stops as well.
    """
    import psutil

    try:
        parent = psutil.Process(process_id)
    except psutil.NoSuchProcess:
        _delete(folder)
        sys.exit(f"thingsvision-server: --parent must be a running process, got {process_id}")

    def watch() -> None:
        # `is_running` knows if the id was given to a new process.
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_LOOK_SECONDS)
        _stop(folder)

    def run() -> None:
        try:
            watch()
        except psutil.NoSuchProcess:
            _stop(folder)

    threading.Thread(target=run, name="parent", daemon=True).start()


def _stop(folder: str) -> None:
    """End as after SIGTERM, but don't wait for calls of clients that no longer exist."""
    _delete(folder)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_SECONDS)
    os._exit(1)


def _delete(folder: str) -> None:
    """Delete the folder; Windows leaves a log that is still written to."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
