"""Connections that break and servers that end: no call hangs, and every reply is right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from support.broken_network import Proxy, proxy
from support.fixed_calls import Work, fixed_calls
from support.server_process import server_process
from support.serving import TestServer, serving
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client
from thingsvision_client.errors import IncompleteReplyError, StoppedError, UnavailableError

PHOTO_COUNT = 24
RECOVERY_SECONDS = 30
CHAOS_SECONDS = 600


class Caller(threading.Thread):
    """Makes one kind of call again and again; repeats a call that a fault ended."""

    def __init__(self, kind: str, work: Work, expected: Any, ended: threading.Event) -> None:
        super().__init__(name=kind, daemon=True)
        self.work, self.expected, self.ended = work, expected, ended
        self.completed_count = self.failed_count = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self._call(self.completed_count + 1)
        except BaseException as error:
            self.error = error

    def _call(self, number: int) -> None:
        try:
            reply = self.work(number)
        except (UnavailableError, IncompleteReplyError, StoppedError):
            self.failed_count += 1
            time.sleep(0.05)
            return
        assert reply == self.expected, f"call {number} has another reply"
        self.completed_count += 1


@contextmanager
def calling(network: Proxy, photos: Path, scratch: Path) -> Iterator[list[Caller]]:
    """Have five threads call by the proxy; at the end, no call may hang, and all must be right."""
    ended = threading.Event()
    with Client(network.address) as client:
        work = fixed_calls(client, photos, scratch)
        callers = [Caller(kind, call, call(0), ended) for kind, call in work.items()]
        for caller in callers:
            caller.start()
        yield callers
        # The last fault is over: a call that hangs now hangs for ever.
        before = [caller.completed_count for caller in callers]
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline and any(
            caller.is_alive() and caller.completed_count == count
            for caller, count in zip(callers, before, strict=True)
        ):
            time.sleep(0.05)
        ended.set()
        for caller in callers:
            caller.join(max(0.1, deadline - time.monotonic()))
        print({c.name: (c.completed_count, c.failed_count) for c in callers})
        assert [caller.name for caller in callers if caller.is_alive()] == []
        assert [caller.error for caller in callers if caller.error is not None] == []


def cut_now_and_then(network: Proxy, seconds: float, chance: random.Random) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chance.choice([0.05, 0.2, 0.5, 1.0]))
        network.cut()


def end_by(network: Proxy, stop: Callable[[], Any], chance: random.Random) -> None:
    """Have the server end while connections break; then nothing answers for a moment."""
    stopping = threading.Thread(target=stop)
    stopping.start()
    cut_now_and_then(network, 1, chance)
    stopping.join(30)
    network.target = ""
    network.cut()
    time.sleep(chance.uniform(0, 1.5))


@pytest.fixture
def tiny_photos(tmp_path: Path, photos: list[Path]) -> Path:
    write_tiny_photos(tmp_path / "photos", photos, PHOTO_COUNT)
    return tmp_path / "photos"


def test_no_call_hangs_when_connections_break_and_a_server_is_restarted(
    server: TestServer, tmp_path: Path, tiny_photos: Path
) -> None:
    chance = random.Random(0)
    with proxy() as network, ExitStack() as first_life:
        first = first_life.enter_context(serving(tmp_path / "weights", drain_seconds=0.5))
        network.target = first.address
        with calling(network, tiny_photos, tmp_path) as callers:
            cut_now_and_then(network, 7, chance)
            end_by(network, first_life.close, chance)
            network.target = server.address
            cut_now_and_then(network, 8, chance)
        assert sum(caller.failed_count for caller in callers) > 0, "no call met a fault"


@contextmanager
def life(network: Proxy, folder: Path, chance: random.Random) -> Iterator[None]:
    """Run a server in its own process, which is killed or drained at the end of the context."""
    is_killed = chance.random() < 0.5
    fate = pytest.raises(AssertionError, match="ended with -9") if is_killed else nullcontext()
    with fate, server_process(folder) as started:
        network.target = started.address
        yield
        end = started.process.kill if is_killed else started.process.terminate
        end_by(network, end, chance)


@pytest.mark.timeout(1200)
def test_no_call_hangs_in_ten_minutes_of_killed_and_drained_servers(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_photos: Path
) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("takes ten minutes: pass --all")
    chance, deadline = random.Random(1), time.monotonic() + CHAOS_SECONDS
    with proxy() as network, ExitStack() as callers:
        with life(network, tmp_path, chance):
            callers.enter_context(calling(network, tiny_photos, tmp_path))
            cut_now_and_then(network, 25, chance)
        while time.monotonic() < deadline:
            with life(network, tmp_path, chance):
                cut_now_and_then(network, 25, chance)
        with server_process(tmp_path) as last, Client(last.address) as undisturbed:
            for work in fixed_calls(undisturbed, tiny_photos, tmp_path / "last").values():
                work(0)  # from now on it answers at once
            network.target = last.address
            callers.close()
