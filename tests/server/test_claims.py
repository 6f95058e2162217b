"""Servers that share a folder don't delete what another uses, without locks and equal clocks."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from thingsvision_server.shared_folder.claims import ClaimedError, Claims, is_there, remove_doomed
from thingsvision_server.shared_folder.heartbeats import Heartbeats
from thingsvision_server.shared_folder.unfinished import (
    finish,
    remove_unfinished,
    unfinished_file,
    unfinished_folder,
)

Make = Callable[[], Claims]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes the claims of one more server."""
    with ExitStack() as stack:

        def make() -> Claims:
            claims = Claims(tmp_path)
            stack.callback(claims.close)
            return claims

        yield make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "uploads" / "some * file"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def write_heart(folder: Path, name: str, count: int = 0) -> Path:
    """Write the heart of a server on another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    heart = folder / f"{name}.alive"
    facts = {"host": "node7", "pid": 1, "boot": "b", "pids": "p", "started": "1", "beat": count}
    heart.write_text(json.dumps(facts))
    return heart


def test_a_claimed_file_is_not_deleted(server: Make, file: Path) -> None:
    user, deleter = server(), server()
    assert user.take(file)
    assert user.take(file)
    with pytest.raises(ClaimedError, match=f"is used by the server of process {os.getpid()} on "):
        deleter.delete(file)
    assert file.read_bytes() == b"weights"
    user.drop(file)
    with pytest.raises(ClaimedError, match="this server"):
        user.delete(file)
    user.drop(file)
    assert deleter.delete(file)
    assert not deleter.delete(file)
    assert not user.take(file)
    assert [path.name for path in file.parent.iterdir()] == []


def test_a_claim_is_one_file_however_many_requests_use_it(
    server: Make, file: Path, tmp_path: Path
) -> None:
    user = server()
    with user.hold(file), user.hold(file) as found:
        assert found
        assert len(list((tmp_path / "servers").glob("*@*"))) == 1
    assert list((tmp_path / "servers").glob("*@*")) == []


def test_a_file_about_to_be_deleted_is_taken_back(server: Make, file: Path) -> None:
    file.rename(file.with_name(".doomed-0123456789ab-some * file"))
    assert not is_there(file.with_name("file"))
    assert server().take(file)
    assert file.read_bytes() == b"weights"


def test_a_file_that_a_killed_server_was_about_to_delete_comes_back(file: Path) -> None:
    file.rename(file.with_name(".doomed-0123456789ab-some * file"))
    remove_doomed(file.parent)
    assert file.read_bytes() == b"weights"


def test_nothing_that_is_claimed_goes_whatever_happens_at_once(server: Make, file: Path) -> None:
    users, deleters = [server() for _ in range(3)], [server() for _ in range(2)]
    counts = {"used": 0, "deleted": 0, "kept": 0, "lost": 0}
    pauses = itertools.cycle((0.0, 0.005, 0.001, 0.009))

    def use(claims: Claims) -> None:
        with claims.hold(file) as found:
            looks = [is_there(file) for _ in range(5 * found)]
            counts["lost"] += looks.count(False)
            counts["used"] += found
            time.sleep(0.001)
        time.sleep(0.001 + next(pauses))  # else one of them always holds it, on some machines

    def delete(claims: Claims) -> None:
        try:
            counts["deleted"] += claims.delete(file)
        except ClaimedError:
            counts["kept"] += 1

    def write(claims: Claims) -> None:
        with unfinished_file(file.parent, claims.server) as new:
            finish(new, file)
        time.sleep(0.002)

    work = [*((use, one) for one in users), *((delete, one) for one in deleters)]
    repeat_all(
        [partial(do, one) for do, one in [*work, (write, users[0])]],
        lambda: all(count for what, count in counts.items() if what != "lost"),
    )
    assert counts.pop("lost") == 0
    assert all(counts.values()), counts


def repeat_all(works: list[Callable[[], None]], is_seen: Callable[[], bool]) -> None:
    """Do all of it again and again, at once: for a second, and until all has been seen."""
    begun = time.monotonic()

    def repeat(work: Callable[[], None]) -> None:
        while (passed := time.monotonic() - begun) < 1 or (not is_seen() and passed < 30):
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        for result in [pool.submit(repeat, work) for work in works]:
            result.result()


KILLED = """
import sys, time
from pathlib import Path
from thingsvision_server.shared_folder.claims import Claims
from thingsvision_server.shared_folder.unfinished import unfinished_file
file = Path(sys.argv[1])
claims = Claims(file.parent.parent)
with claims.hold(file), unfinished_file(file.parent, claims.server):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_the_claims_of_a_killed_process_count_for_nothing(server: Make, file: Path) -> None:
    deleter = server()
    user = subprocess.Popen([sys.executable, "-c", KILLED, file], stdout=subprocess.PIPE, text=True)
    with user:
        assert user.stdout
        assert user.stdout.readline() == "claimed\n"
        with pytest.raises(ClaimedError, match=f"process {user.pid} on"):
            deleter.delete(file)
        remove_unfinished(file.parent, deleter.heartbeats)
        assert len(list(file.parent.iterdir())) == 2
        user.send_signal(signal.SIGKILL)
    assert deleter.delete(file)
    remove_unfinished(file.parent, deleter.heartbeats)
    assert list(file.parent.iterdir()) == []
    server()
    assert len(list((file.parent.parent / "servers").glob("*@*"))) == 0


def test_a_server_of_another_machine_dies_when_its_heart_stops(
    server: Make, file: Path, tmp_path: Path
) -> None:
    heart = write_heart(tmp_path / "servers", "far")
    os.utime(heart, (2e9, 2e9))  # its clock is years ahead
    claim = tmp_path / "servers" / "uploads%2Fsome%20%2A%20file@far"
    claim.touch()
    hearts = Heartbeats(tmp_path / "servers", beat_seconds=10.0, stale_seconds=0.2)
    claims, died = Claims(tmp_path, hearts), []
    hearts.after_death(died.append)
    for count in range(1, 4):
        hearts.look()
        time.sleep(0.15)
        write_heart(tmp_path / "servers", "far", count)
    hearts.look()
    with pytest.raises(ClaimedError, match="process 1 on node7"):
        claims.delete(file)
    time.sleep(0.25)
    assert died == []
    hearts.look()
    assert died == ["far"]
    assert not heart.exists()
    assert not claim.exists()
    assert claims.delete(file)
    claims.close()


def test_a_server_that_was_paused_takes_nobody_for_dead(tmp_path: Path) -> None:
    write_heart(tmp_path, "far")
    hearts = Heartbeats(tmp_path, beat_seconds=0.05, stale_seconds=0.2)
    hearts.look()
    time.sleep(0.3)  # it saw nothing of the others in this time
    hearts.look()
    assert hearts.is_alive("far")
    hearts.close()


def test_a_server_that_was_taken_for_dead_claims_again(
    server: Make, file: Path, tmp_path: Path
) -> None:
    user, deleter = server(), server()
    user.take(file)
    for path in (tmp_path / "servers").glob(f"*{user.server}*"):
        path.unlink()
    user.heartbeats.beat()
    with pytest.raises(ClaimedError):
        deleter.delete(file)


def test_a_heart_beats_by_itself(tmp_path: Path) -> None:
    hearts = Heartbeats(tmp_path, beat_seconds=0.02)
    hearts.start()
    heart = tmp_path / f"{hearts.server}.alive"
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < deadline:
        seen.add(heart.read_bytes())
    hearts.close()
    assert len(seen) == 3
    assert not heart.exists()


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), OSError(95, "Not supported")])
def test_no_lock_is_needed(
    server: Make, file: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise error

    monkeypatch.setattr(fcntl, "flock", flock)
    one, other = server(), server()
    with one.hold(file), pytest.raises(ClaimedError):
        other.delete(file)
    with unfinished_folder(file.parent, one.server) as folder:
        remove_unfinished(file.parent, other.heartbeats)
        assert folder.is_dir()
        one.heartbeats.close()
        remove_unfinished(file.parent, other.heartbeats)
        assert not folder.exists()


def test_what_can_only_be_read_is_used_unclaimed(
    server: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    user = server()
    monkeypatch.setattr(Path, "touch", full)
    monkeypatch.setattr(os, "pwrite", full)
    user.heartbeats.beat()
    with user.hold(file) as found:
        assert found
