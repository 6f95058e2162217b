"""A folder of PCAs that several servers share, at any moment of each other's work."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.written_pcas import ADA, LINE, described, numbers
from thingsvision_server.access.owners import Owners
from thingsvision_server.engine.pca.fitted import PCARecord
from thingsvision_server.engine.pca.store import PCAStore
from thingsvision_server.errors import InvalidRequestError, UnknownPCAError
from thingsvision_server.shared_folder import exclusion
from thingsvision_server.shared_folder.claims import Claims

QUOTA = 2**30
SERVERS = 4
ROUNDS = 12

Start = Callable[[], PCAStore]


@pytest.fixture(params=["flock", "no flock"])
def start(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Start one more server's store, on a disk with or without the locks of the system."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if request.param == "no flock":
        monkeypatch.setattr("fcntl.flock", fail)
    with ExitStack() as stack:

        def begin() -> PCAStore:
            claims = Claims(tmp_path)
            stack.callback(claims.close)
            return PCAStore(tmp_path / "pca", QUOTA, claims)

        yield begin


def names_in(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "pca").iterdir()} - {"owners"}


def test_one_name_stored_by_all_servers_at_once_is_one_pca(start: Start, tmp_path: Path) -> None:
    stores = [start() for _ in range(SERVERS)]
    with ThreadPoolExecutor(SERVERS) as threads:
        for turn in range(ROUNDS):
            name, ready = f"round {turn}", threading.Barrier(SERVERS)

            def keep(number: int, name: str = name, ready: threading.Barrier = ready) -> PCARecord:
                ready.wait()
                # Other bits on each server, as of other numbers of cores.
                return stores[number].keep(described(LINE, name), LINE, numbers(number), ADA)

            kept = list(threads.map(keep, range(SERVERS)))
            assert len({record.sha256 for record in kept}) == 1
            for store in stores:
                assert [one.sha256 for one in store.find_records(name, ADA)] == [kept[0].sha256]
    assert len(names_in(tmp_path)) == ROUNDS


def test_one_name_for_other_images_at_once_is_refused_but_once(start: Start) -> None:
    stores, ready = [start() for _ in range(SERVERS)], threading.Barrier(SERVERS)

    def keep(number: int) -> str:
        ready.wait()
        images = LINE * (number + 1)
        try:
            return stores[number].keep(described(images), images, numbers(), ADA).sha256
        except InvalidRequestError as error:
            return str(error)

    with ThreadPoolExecutor(SERVERS) as threads:
        said = list(threads.map(keep, range(SERVERS)))
    (record,) = stores[0].find_records("ü", ADA)
    refused = [one for one in said if one != record.sha256]
    assert len(refused) == SERVERS - 1
    assert all("already exists for the same features: its images are" in one for one in refused)


def test_a_name_that_is_there_twice_means_the_oldest_on_every_server(
    start: Start, tmp_path: Path
) -> None:
    """As two servers left it before they waited for each other."""
    ages, owners = {1.0: "", 0.0: "", 2.0: ""}, Owners(tmp_path / "pca" / "owners")
    for age in ages:
        record = start().keep(described(LINE, f"name {age}"), LINE, numbers(age), ADA)
        os.utime(tmp_path / "pca" / f"{record.sha256}.safetensors", (1_000 + age, 1_000 + age))
        owners.add(record.sha256, ADA, is_stored=True, facts={"name": "same"})
        ages[age] = record.sha256
    facts, shapes = described(LINE).facts, described(LINE).shapes
    for store in (start(), start()):
        assert store.find("same", facts, shapes, ADA).record.sha256 == ages[0.0]
        kept = store.keep(described(LINE, "same"), LINE, numbers(5), ADA)
        assert kept.sha256 == ages[0.0]


def test_a_server_starts_lists_and_stores_while_another_deletes(
    start: Start, tmp_path: Path
) -> None:
    stopped, writer = threading.Event(), start()

    def change() -> int:
        count = 0
        while not stopped.is_set():
            record = writer.keep(described(LINE, ""), LINE, numbers(count % 50), ADA)
            writer.delete(record.sha256, ADA)
            count += 1
        return count

    with ThreadPoolExecutor(1) as threads:
        changes = threads.submit(change)
        try:
            for number in range(40):
                store = start()
                store.records(ADA)
                record = store.keep(described(LINE, ""), LINE, numbers(100 + number), ADA)
                assert store.delete(record.sha256, ADA) == record.size_bytes
        finally:
            stopped.set()
        assert changes.result() > 5
    assert names_in(tmp_path) == set()
    assert list((tmp_path / "pca" / "owners").glob("*/*.json")) == []


def test_a_pca_that_another_server_deletes_is_unknown_not_an_accident(start: Start) -> None:
    one, other = start(), start()
    record = one.keep(described(LINE), LINE, numbers(), ADA)
    facts, shapes = described(LINE).facts, described(LINE).shapes
    in_use = one.find("ü", facts, shapes, ADA)
    assert other.delete("ü", ADA) == record.size_bytes
    assert in_use.modules, "requests that are using it finish with it"
    for store in (one, other):
        with pytest.raises(UnknownPCAError):
            store.find("ü", facts, shapes, ADA)
        with pytest.raises(UnknownPCAError):
            store.delete(record.sha256, ADA)
    assert one.keep(described(LINE), LINE, numbers(), ADA).sha256 == record.sha256


def test_a_server_that_was_killed_while_it_gave_a_name_holds_nobody_up(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "STALE_SECONDS", 0.3)
    store, folder = start(), tmp_path / "pca"
    folder.mkdir(exist_ok=True)
    with exclusion.alone(folder, "ü"):
        (left,) = folder.glob(".alone-*")
        copy = left.with_name("copy")
        os.link(left, copy)
    copy.rename(left)  # as a killed server leaves it
    started = time.monotonic()
    store.keep(described(LINE), LINE, numbers(), ADA)
    assert time.monotonic() - started > 0.3
    assert not left.exists()
    left.touch()
    os.utime(left, (0, 0))
    start()
    assert not left.exists(), "a server deletes at its start what was left days ago"


def test_what_killed_servers_left_of_owners_goes(start: Start, tmp_path: Path) -> None:
    folder, sha256 = tmp_path / "pca" / "owners", "a" * 64
    record = start().keep(described(LINE), LINE, numbers(), ADA)
    Owners(folder).add(sha256, ADA, is_stored=False)  # and then the server was killed
    unfinished = folder / ".unfinished-1-dead=0"
    unfinished.touch()
    store = start()
    assert not unfinished.exists()
    assert Owners(folder).of(sha256), "another server may be about to store it"
    row = next((folder / sha256).glob("*.json"))
    row.write_text(re.sub(r'"since":[\d.]+', '"since":1.0', row.read_text()))
    start()
    assert Owners(folder).of(sha256) == []
    assert [one.sha256 for one in store.records(ADA)] == [record.sha256]


def test_a_server_that_waits_takes_nothing_away_from_who_holds_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "STALE_SECONDS", 0.5)
    inside, most, turns = 0, 0, 0
    counting = threading.Lock()

    def hold(_: int) -> None:
        nonlocal inside, most, turns
        with exclusion.alone(tmp_path, "ü"):
            with counting:
                inside, turns = inside + 1, turns + 1
                most = max(most, inside)
            time.sleep(0.01)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(hold, range(64)))
    assert (most, turns) == (1, 64)
    assert list(tmp_path.iterdir()) == []
