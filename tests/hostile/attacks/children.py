"""Child processes that are killed, as the system kills them when memory is short."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from support.written_programs import archive, node
from thingsvision_client import Client
from thingsvision_client.errors import BackendCrashedError

from .registry import Target, attack

_TRIES = 3


@attack()
def killed_children(target: Target) -> None:
    """Kill all children, also those that are just being started; then one is needed."""
    path = target.folder / "program.pt2"
    path.write_bytes(archive([node("add.Tensor", "result", self="x", other=time.time())]))
    over = threading.Event()

    def kill_soon() -> None:
        for _ in range(2):
            for child in target.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            over.wait(0.3)

    killer = threading.Thread(target=kill_soon)
    killer.start()
    with Client(target.address) as client:
        _upload(client, path, killer)
        client.delete_upload(hashlib.sha256(path.read_bytes()).hexdigest())


def _upload(client: Client, path: Path, killer: threading.Thread) -> None:
    for _ in range(_TRIES):
        with suppress(BackendCrashedError):
            client.upload_model(path)
            return
        killer.join()
    raise AssertionError(f"children were killed {_TRIES} times and not started anew")
