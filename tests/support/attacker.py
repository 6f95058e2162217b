"""An attack in a process of its own: what it takes of Python is not taken from another client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from support.server_process import ServerProcess, run_in_template

_READY_SECONDS, _EVERY_SECONDS = 120.0, 1.0


class Attacker:
    """A process that has imported an attack, and waits for the word."""

    def __init__(self, folder: Path, process: Any) -> None:
        self._folder = folder
        self._process = process

    def attack(self) -> tuple[int, str]:
        """Attack; return how many times it did, and what failed; empty: nothing."""
        (self._folder / "go").touch()
        self._process.join()
        if self._process.exitcode:
            return 0, f"the attacker ended with {self._process.exitcode}"
        found = json.loads((self._folder / "found").read_text())
        return found["count"], found["fault"]


@contextmanager
def attacker(
    name: str, server: ServerProcess, photos: Sequence[Path], folder: Path, *, seconds: float
) -> Iterator[Attacker]:
    """Yield what attacks a server again and again, until so many seconds are over.

    It begins once a second at most: more often, it would measure what the attacker's own processor
    time takes from others of the machine. `folder` is empty.
    """
    places = json.dumps([str(folder), *map(str, photos)])
    process = run_in_template(
        _attack, name, server.address, str(server.process.pid), places, str(seconds)
    )
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not (folder / "ready").exists():
            if time.monotonic() > deadline or process.exitcode is not None:
                raise TimeoutError("the attacker did not start")
            time.sleep(0.02)
        yield Attacker(folder, process)
    finally:
        process.kill()
        process.join(10)


def _attack(name: str, address: str, pid: str, places: str, seconds: str) -> None:
    from hostile.attacks import ATTACKS, Target

    folder, *photos = map(Path, json.loads(places))
    (folder / "ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    count, fault, deadline = 0, "", time.monotonic() + float(seconds)
    while not fault and (not count or time.monotonic() < deadline):
        place, began = folder / str(count), time.monotonic()
        place.mkdir()
        try:
            ATTACKS[name].run(Target(address, psutil.Process(int(pid)), photos, place))
        # Failures of pytest are not instances of `Exception`.
        except BaseException as error:
            fault = f"{type(error).__name__}: {str(error)[:100]}"
        count += 1
        time.sleep(max(0.0, began + _EVERY_SECONDS - time.monotonic()))
    (folder / "found").write_text(json.dumps({"count": count, "fault": fault}))
