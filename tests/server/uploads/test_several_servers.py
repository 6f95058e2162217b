"""Several servers on one folder: one store of uploads, also without locks, and when killed."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from support.serving import TestServer, serving
from support.weight_files import MIB, digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import ModelInUseError, UnknownWeightsError
from thingsvision_server.access.person import Person, act_as
from thingsvision_server.access.scopes import Scope
from thingsvision_server.errors import StorageError, ThingsvisionError
from thingsvision_server.shared_folder.claims import Claims
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement

WORK = frozenset({Scope.READ, Scope.UPLOAD})
ADA, EVE = Person("ada", WORK), Person("eve", WORK)


def announce(content: bytes, sender: str = "") -> Announcement:
    return Announcement(digest(content), len(content), sender=sender)


def upload(store: UploadStore, content: bytes, person: Person = ADA) -> None:
    """Send a whole file, as a person, unless the person need not."""
    with act_as(person):
        if store.find(announce(content)) is None:
            with store.begin(announce(content, person.name)) as begun:
                begun.write(content[begun.resume() :])
                begun.finish()


def store_of(folder: Path, quota_bytes: int = 10**9) -> UploadStore:
    """Return the store of another server over a folder."""
    return UploadStore(folder / "uploads", 10**9, quota_bytes, claims=Claims(folder))


@pytest.fixture(scope="module")
def other(server: TestServer, folder: Path) -> Iterator[TestServer]:
    """A second server beside `server`, over the same folder."""
    with serving(folder, drain_seconds=1.0, max_upload_bytes=64 * MIB) as running:
        yield running


def test_what_a_server_has_in_memory_no_other_server_deletes(
    client: Client, other: TestServer, tmp_path: Path
) -> None:
    path = tmp_path / "squeezenet.safetensors"
    torch.manual_seed(41)
    save_file(models.squeezenet1_1().state_dict(), path)
    sha256 = client.upload_weights(path)
    model = f"torchvision/squeezenet1_1@sha256:{sha256}"
    with Client(other.address) as there:
        there.pin(model)
        with pytest.raises(ModelInUseError, match=r"its models in memory of the server of process"):
            client.delete_upload(sha256)
        there.pin(model, False)
        with pytest.raises(ModelInUseError):
            client.delete_upload(sha256)
        there.unload(model)
        assert client.delete_upload(sha256) == path.stat().st_size
        with pytest.raises(UnknownWeightsError):
            there.load(model)
        assert sha256 not in [one.sha256 for one in there.uploads()]
        # What one server stores, the other uses at once.
        assert client.upload_weights(path) == sha256
        there.load(model)
        there.unload(model)
        assert there.delete_upload(sha256) > 0


def test_an_upload_goes_on_at_another_server(tmp_path: Path) -> None:
    content, (here, there) = weights(1, seed=42), (store_of(tmp_path), store_of(tmp_path))
    with suppress(KeyboardInterrupt), here.begin(announce(content)) as begun:
        begun.write(content[:1000])
        # While one server receives it, an upload at the other is another file.
        with suppress(KeyboardInterrupt), there.begin(announce(content)) as second:
            assert second.resume() == 0
            second.write(content[:10])
            raise KeyboardInterrupt
        raise KeyboardInterrupt
    with there.begin(announce(content)) as begun:
        assert begun.resume() == 1000  # the longer of the two
        begun.write(content[1000:])
        begun.finish()
    assert [one.sha256 for one in here.records()] == [digest(content)]
    assert not list((tmp_path / "uploads").glob("partial-*"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_uploads_need_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = tmp_path / "uploads"
    folder.mkdir()
    old = folder / f"partial-{'0' * 64}-{'1' * 16}"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 10**6,) * 2)
    content, path = weights(0.1, seed=43), tmp_path / "file.safetensors"
    path.write_bytes(content)
    with serving(tmp_path) as server, Client(server.address) as client:
        assert not old.exists()
        assert client.upload_weights(path) == digest(content)
        assert client.delete_upload(digest(content)) == len(content)


def test_a_quota_is_of_all_servers_and_owners(tmp_path: Path) -> None:
    """It is exceeded by at most one file for each server that has a file on its way."""
    size, count = MIB // 4, 3
    stores = [store_of(tmp_path, 10 * size) for _ in range(count)]

    def fill(number: int) -> None:
        person = (ADA, EVE, Person("bob", WORK))[number]
        for seed in range(12):
            content = weights(0.25, seed=1000 + 100 * number + seed)
            with suppress(StorageError):
                upload(stores[number], content, person)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(fill, range(count)))
    stored = [path for path in (tmp_path / "uploads").iterdir() if path.is_file()]
    used = sum(path.stat().st_size for path in stored if not path.name.startswith("partial-"))
    assert 8 * size <= used <= (10 + count) * (size + 1000)


# ---------------------------------------------------------------- killed, and many at once

_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "open")


def killed_at(step: int, folder: Path, content: bytes) -> bool:
    """Have another server own a file with Ada, take it from both; kill it before a change."""
    child = os.fork()
    if child == 0:
        store = store_of(folder)
        left = iter(range(step))

        def count(event: str, arguments: tuple[object, ...]) -> None:
            path = str(arguments[0]) if arguments else ""
            if event in _CHANGES and str(folder) in path and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        with suppress(BaseException):
            upload(store, content, EVE)
            for person in (ADA, EVE):
                with act_as(person):
                    store.delete(digest(content))
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_server_killed_at_any_point_leaves_an_upload_whole_or_gone(tmp_path: Path) -> None:
    content, kills, step = weights(seed=44), 0, 0
    while step < 300:
        folder = tmp_path / str(step)
        upload(store_of(folder), content, ADA)
        if not killed_at(step, folder, content):
            break
        kills, step = kills + 1, step + 6
        store = store_of(folder)  # as the next server starts
        whole = (folder / "uploads" / digest(content)).exists()
        seen = []
        for person in (ADA, EVE, Person("stranger", WORK)):
            with act_as(person):
                seen.append([one.sha256 for one in store.records()] == [digest(content)])
        assert not seen[2]
        assert whole or not any(seen)
        assert not whole or any(seen), "bytes that are nobody's stay for ever"
        for person in (ADA, EVE):
            upload(store, content, person)  # and everything goes on
            with act_as(person):
                assert [one.sha256 for one in store.records()] == [digest(content)]
    assert kills > 5


def test_many_uploads_and_deletions_at_once_lose_nothing(tmp_path: Path) -> None:
    """1,000 of them, of few files, by eight people at three servers."""
    stores = [store_of(tmp_path) for _ in range(3)]
    contents = [weights(seed=2000 + number) for number in range(6)]
    errors: list[BaseException] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        draw = random.Random(number)
        for _ in range(125):
            content, store = draw.choice(contents), draw.choice(stores)
            person = Person(f"p{number}", WORK)  # so each knows what is theirs
            try:
                upload(store, content, person)
                with act_as(person):
                    assert digest(content) in [one.sha256 for one in draw.choice(stores).records()]
                    if draw.random() < 0.7:
                        draw.choice(stores).delete(digest(content))
                        found = [one.sha256 for one in draw.choice(stores).records()]
                        assert digest(content) not in found
            except (AssertionError, OSError, ThingsvisionError) as error:
                with lock:
                    errors.append(error)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert errors == []
    uploads = tmp_path / "uploads"
    for content in contents:
        is_there = (uploads / digest(content)).exists()
        assert is_there == any((uploads / "owners" / digest(content)).glob("*.json"))
        assert not is_there or (uploads / digest(content)).read_bytes() == content
    assert not [path for path in uploads.iterdir() if path.name.startswith((".", "partial-"))]


def test_a_model_whose_file_was_removed_by_hand_can_be_unpinned_and_unloaded(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "squeezenet.safetensors"
    torch.manual_seed(45)
    save_file(models.squeezenet1_1().state_dict(), path)
    model = f"torchvision/squeezenet1_1@sha256:{client.upload_weights(path)}"
    client.pin(model)
    (folder / "uploads" / digest(path.read_bytes())).unlink()
    with pytest.raises(UnknownWeightsError):
        client.pin(model)
    client.pin(model, False)
    client.unload(model)
    assert model not in [one.model_id for one in client.residency().models]
