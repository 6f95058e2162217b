"""Guests that have been taken over: what the system denies them, and what they cost others."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from support.checkout import SUPPORT
from thingsvision_server.backends.children import watch
from thingsvision_server.backends.children.blocks import BlockPool
from thingsvision_server.backends.children.channel import open_memory
from thingsvision_server.backends.children.guests import Guest, GuestRuntime, isolation
from thingsvision_server.backends.children.replies import ChildFault
from thingsvision_server.backends.children.rows_in_place import RowsInPlace, write_rows
from thingsvision_server.backends.children.watch import Limits
from thingsvision_server.errors import (
    BackendCrashedError,
    InvalidWeightsError,
    PreconditionError,
)
from thingsvision_server.sources.uploads.guests import guest_of

_REQUIRED = "THINGSVISION_REQUIRE_ISOLATION"
_DENIED = {"EACCES", "EPERM"}
_WHAT = {"files", "network", "processes"}


@pytest.fixture(scope="module")
def runtime() -> Iterator[GuestRuntime]:
    """Guests whose service does what it is told."""
    patch = pytest.MonkeyPatch()
    paths = [str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    running = GuestRuntime(service="support.hostile_guest")
    yield running
    running.close()
    patch.undo()


@pytest.fixture
def guest(runtime: GuestRuntime, tmp_path: Path) -> Iterator[Guest]:
    """A guest with a file of its own."""
    path = tmp_path / "program"
    path.write_bytes(b"its own")
    yield runtime.guest(path, "a program")
    runtime.forget(path)


@pytest.fixture
def confined() -> None:
    """Skip where the system can't confine guests; where that is required, fail."""
    if missing := _WHAT - set(isolation()):
        reason = f"this system can't deny guests {', '.join(sorted(missing))}"
        pytest.fail(reason) if os.environ.get(_REQUIRED) else pytest.skip(reason)


def outcome(guest: Guest, action: str, argument: Any = None) -> str:
    found: str = guest.request("act", Limits(), action=action, argument=argument)["outcome"]
    return found


@pytest.mark.usefixtures("confined")
def test_a_guest_reads_its_own_file_and_libraries_but_no_other_file(
    guest: Guest, tmp_path: Path
) -> None:
    other = tmp_path / "of another user"
    other.write_text("secret")
    assert outcome(guest, "read", str(guest.path)) == "done"
    assert outcome(guest, "read", np.__file__) == "done"
    for path in ("/etc/passwd", str(other), f"/proc/{os.getpid()}/environ"):
        assert outcome(guest, "read", path) in _DENIED, path
    for path in (str(guest.path), str(tmp_path / "new"), "/dev/shm/new"):
        assert outcome(guest, "write", path) in _DENIED, path
    assert guest.path.read_bytes() == b"its own"


@pytest.mark.usefixtures("confined")
def test_a_guest_can_t_connect(guest: Guest, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert outcome(guest, "connect", server.getsockname()[1]) in _DENIED
    with socket.socket(socket.AF_UNIX) as local:
        path = str(tmp_path / "socket")
        local.bind(path)
        local.listen()
        assert outcome(guest, "connect locally", path) in _DENIED


@pytest.mark.usefixtures("confined")
def test_a_guest_can_t_reach_other_processes(guest: Guest) -> None:
    for action in ("signal", "trace"):  # SIGUSR1 would end this process
        assert outcome(guest, action, os.getpid()) in _DENIED, action
    assert outcome(guest, "run", sys.executable) in _DENIED
    assert outcome(guest, "fork") in _DENIED


def test_a_guest_sees_no_variables_of_the_server(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with guest.keeper.use() as child:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
    assert b"HF_TOKEN" not in environment
    assert b"THINGSVISION" not in environment


@pytest.mark.parametrize(("action", "signal"), [("divide", "SIGFPE"), ("point nowhere", "SIGSEGV")])
def test_a_death_ends_that_guest_alone_and_is_told(
    runtime: GuestRuntime, guest: Guest, tmp_path: Path, action: str, signal: str
) -> None:
    other_path = tmp_path / "other"
    other_path.write_bytes(b"")
    other = runtime.guest(other_path, "another program")
    with other.keeper.use() as before:
        with pytest.raises(InvalidWeightsError, match=rf"a program can't be used: .*by {signal}"):
            outcome(guest, action)
        assert not before.is_gone
    assert outcome(guest, "read", str(guest.path)) == "done"
    runtime.forget(other_path)


def test_a_guest_that_can_t_answer_leaves_nobody_waiting(guest: Guest) -> None:
    with pytest.raises(ChildFault, match="bytes is not JSON serializable"):
        guest.request("answer_bytes", Limits())
    assert outcome(guest, "read", str(guest.path)) == "done"


def test_a_loop_is_ended_by_its_processor_time(guest: Guest) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidWeightsError, match=r"took \d+ s of processor time, of 1 s that"):
        guest.request("act", Limits(cpu_seconds=1.0), action="loop", argument=None)
    assert time.monotonic() - started < 60


def test_a_guest_that_hangs_is_ended_without_processor_time(guest: Guest) -> None:
    limits = Limits(cpu_seconds=1000.0, idle_seconds=0.5)
    with pytest.raises(InvalidWeightsError, match=r"hung: it took \d+ s and hardly used the proc"):
        guest.request("act", limits, action="hang", argument=None)
    assert outcome(guest, "read", str(guest.path)) == "done"


def test_a_pass_that_hangs_twice_is_not_given_again(guest: Guest) -> None:
    batch = np.zeros((1, 3), np.float32)
    for _ in range(2):
        with (
            pytest.raises(BackendCrashedError, match=r"hung: .*during this request"),
            guest.guard([batch]),
            guest.keeper.use() as child,
        ):
            child.run("act", limits=Limits(idle_seconds=0.3), action="hang", argument=None)
    with pytest.raises(PreconditionError, match="died 2 times"), guest.guard([batch]):
        pass


def test_every_request_to_a_guest_has_a_limit_of_time_without_work(guest: Guest) -> None:
    for limits in (guest.check_limits, guest.build_limits, guest.pass_limits(1)):
        assert limits.idle_seconds >= 600
        assert limits.cpu_seconds > 0
    assert guest.close_limits.idle_seconds > 0


def test_time_in_which_the_server_is_stopped_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_MOST_BETWEEN_SECONDS", 0.05)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        watched = watch.Watched(process.pid, process.kill)
        with watched.limit(Limits(idle_seconds=1000.0)):
            watched.look()  # its start took processor time
        with watched.limit(Limits(idle_seconds=0.01 + 20 * 0.05)):
            for _ in range(3):
                time.sleep(0.5)
                watched.look()
                assert not watched.reason
            until = time.monotonic() + 60
            while not watched.reason:
                assert time.monotonic() < until
                time.sleep(0.05)
                watched.look()
    assert "hung" in watched.reason


def test_a_request_that_works_slowly_does_not_hang() -> None:
    slow = watch._Running(Limits(idle_seconds=10.0), cpu_seconds=2.0, seconds=100.0)
    assert not watch._excess(slow)
    slow.seconds = 111.0
    assert "hung" in watch._excess(slow)


def test_memory_is_limited_twice(guest: Guest) -> None:
    limits = Limits(memory_bytes=512 * 1024**2)
    with pytest.raises(InvalidWeightsError, match=r"bytes of memory, of 536,870,912 that it may"):
        guest.request("act", limits, action="fill memory", argument=None)


def test_a_guest_that_is_gone_before_a_request_is_started_anew(guest: Guest) -> None:
    assert outcome(guest, "read", str(guest.path)) == "done"
    pid = guest.keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "its parent does not wait for it"
        time.sleep(0.01)
    limits = Limits(cpu_seconds=60.0)  # the watch looks at what it has taken so far
    assert guest.request("act", limits, action="read", argument=str(guest.path))
    assert guest.keeper.pid != pid


def test_an_input_that_kills_twice_is_not_given_again(guest: Guest) -> None:
    bad, good = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    for _ in range(2):
        with (
            pytest.raises(BackendCrashedError, match=r"by SIGSEGV.*Segmentation fault"),
            guest.guard([bad]) as limits,
            guest.keeper.use() as child,
        ):
            child.run("act", limits=limits, action="point nowhere", argument=None)
    with (
        pytest.raises(PreconditionError, match=r"died 2 times.*for another \d+ s"),
        guest.guard([np.concatenate([good, bad])]),
    ):
        pass
    with guest.guard([good]):
        pass


def test_an_interrupted_pass_is_no_death_of_the_program(guest: Guest) -> None:
    batch = np.zeros((1, 3), np.float32)
    for _ in range(2):
        threading.Timer(0.5, guest.interrupt).start()
        with (
            pytest.raises(BackendCrashedError),
            guest.guard([batch]) as limits,
            guest.keeper.use() as child,
        ):
            child.run("act", limits=limits, action="loop", argument=None)
    with guest.guard([batch]):
        pass
    assert outcome(guest, "read", str(guest.path)) == "done"


def test_an_ended_guest_leaves_no_thread_no_file_and_no_memory(
    runtime: GuestRuntime, tmp_path: Path
) -> None:
    threads, files, children = threading.active_count(), psutil.Process().num_fds(), []
    for number in range(3):
        path = tmp_path / str(number)
        path.write_bytes(b"")
        guest = runtime.guest(path, "a program")
        assert outcome(guest, "read", str(path)) == "done"
        with guest.keeper.use() as child:
            children.append(weakref.ref(child))
        del child
        runtime.forget(path)
    until = time.monotonic() + 60
    while (
        threading.active_count() > threads
        or psutil.Process().num_fds() > files
        or any(one() for one in children)
    ):
        assert time.monotonic() < until, threading.enumerate()
        gc.collect()
        time.sleep(0.05)


def test_a_guest_can_t_shorten_the_memory_that_it_shares(guest: Guest) -> None:
    descriptor = open_memory(4096)
    with guest.keeper.use() as child:
        assert child.run("cut", descriptors=(descriptor,))["outcome"] == "EPERM"
    assert os.fstat(descriptor).st_size == 4096
    os.close(descriptor)


def test_rows_are_written_where_they_are_shared() -> None:
    pool, place = RowsInPlace(), np.empty((2, 3), np.float32)
    with pool.offer([place]):
        assert pool.array((2, 4)) is not place
        rows = pool.array((2, 3))
        assert rows is place
        assert pool.array((2, 3)) is not place
    rows[:] = 5
    other = np.ones((2, 3), np.float32)
    write_rows([place, other], [rows, np.zeros((2, 3), np.float32)])
    assert (place == 5).all()
    assert not other.any()


def test_rows_keep_their_memory_and_blocks_are_used_again() -> None:
    pool = BlockPool()
    first = pool.lend(100)
    number = first.block.number
    row = np.asarray(first)[:4].view(np.float32)[0:1]
    row[:] = 7
    del first
    other = pool.lend(100)
    assert other.block.number != number, "a block was lent again beside rows in it"
    np.asarray(other)[:] = 0
    assert row[0] == 7
    del row
    assert pool.lend(100).block.number == number


def test_owners_of_an_upload_share_a_guest_that_has_the_name_of_neither(
    runtime: GuestRuntime, tmp_path: Path
) -> None:
    path = tmp_path / ("5" * 64)
    path.write_bytes(b"of two owners")
    guest = guest_of(path, "ada's.onnx", runtime)
    assert guest_of(path, "eve's.onnx", runtime) is guest
    with pytest.raises(InvalidWeightsError, match=rf"own/{path.name} can't be used") as caught:
        outcome(guest, "divide")
    assert "ada" not in str(caught.value)
    runtime.forget(path)
