"""Cached images belong to those who sent them, and several servers share them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from thingsvision_server.access.person import Person, person_of_peer
from thingsvision_server.access.scopes import Scope
from thingsvision_server.engine.images.pools import Pool, parse_pool, pool_of, shared_pool
from thingsvision_server.engine.images.store import ImageStore
from thingsvision_server.shared_folder.claims import Claims

ALICE = Person("alice", frozenset({Scope.EXTRACT}), group="lab")
BOB = Person("bob", frozenset({Scope.EXTRACT}), group="lab")
CAROL = Person("carol", frozenset({Scope.EXTRACT}))
ADMIN = Person("root", frozenset({Scope.ADMIN}))
MACHINE = person_of_peer("ipv4:10.0.0.7")

PHOTO = b"a photograph"
DIGEST = hashlib.sha256(PHOTO).digest()

Start = Callable[..., ImageStore]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts one more server's store on the same folder."""
    with ExitStack() as stack:

        def start(quota_bytes: int = 1000) -> ImageStore:
            claims = Claims(tmp_path)
            stack.callback(claims.close)
            return ImageStore(tmp_path / "images", quota_bytes, claims)

        yield start


def has(store: ImageStore, person: Person, content: bytes = PHOTO) -> bool:
    digest = hashlib.sha256(content).digest()
    found = store.read(digest, person)
    assert found in (content, None)
    assert (store.find_missing([digest], person) == []) == (found is not None)
    return found is not None


def disk_bytes(folder: Path) -> int:
    files = {(one.stat().st_ino, one.stat().st_size) for one in folder.glob("images/**/??/*")}
    return sum(size for _, size in files)


def test_an_image_is_here_for_who_sent_it_alone(start: Start, tmp_path: Path) -> None:
    store = start()
    store.keep(PHOTO, ALICE)
    assert [has(store, one) for one in (ALICE, BOB, CAROL, ADMIN)] == [True, False, False, True]
    store.keep(PHOTO, BOB)
    assert [has(store, one) for one in (ALICE, BOB, CAROL)] == [True, True, False]
    assert store.used_bytes == disk_bytes(tmp_path) == len(PHOTO)
    again = start()
    assert [has(again, one) for one in (ALICE, BOB, CAROL)] == [True, True, False]
    assert again.used_bytes == len(PHOTO)


def test_the_bytes_go_with_the_last_owner(start: Start, tmp_path: Path) -> None:
    store = start()
    store.keep(PHOTO, ALICE)
    store.keep(PHOTO, BOB)
    assert store.delete([DIGEST], [pool_of(ALICE)]) == (1, 0)
    assert [has(store, one) for one in (ALICE, BOB)] == [False, True]
    assert store.delete([DIGEST], [pool_of(BOB)]) == (1, len(PHOTO))
    assert store.delete([DIGEST], [pool_of(BOB)]) == (0, 0)
    assert store.used_bytes == disk_bytes(tmp_path) == 0


def test_people_without_names_share_what_is_here(start: Start, tmp_path: Path) -> None:
    store = start()
    store.keep(PHOTO, MACHINE)
    name = DIGEST.hex()
    assert (tmp_path / "images" / name[:2] / name[2:]).read_bytes() == PHOTO
    assert all(has(store, one) for one in (MACHINE, person_of_peer("ipv4:10.0.0.8"), ALICE))
    store.keep(b"of alice", ALICE)
    assert has(store, MACHINE, b"of alice"), "whoever has no name may do all"
    assert [pools for *_, pools in store.listed(ALICE)] == [[Pool()], [pool_of(ALICE)]]


def test_an_image_can_be_shared_with_a_group_or_with_all(start: Start) -> None:
    store, other = start(), start()
    store.keep(PHOTO, ALICE)
    assert store.move([DIGEST], pool_of(ALICE), shared_pool("alice", "lab")) == 1
    for one in (store, other, start()):
        assert [has(one, who) for who in (ALICE, BOB, CAROL)] == [True, True, False]
    assert other.move([DIGEST], shared_pool("alice", "lab"), shared_pool("alice")) == 1
    assert [has(store, who) for who in (ALICE, BOB, CAROL)] == [True, True, True]
    assert store.delete([DIGEST], [pool_of(BOB), pool_of(CAROL)]) == (0, 0)
    assert store.move([DIGEST], pool_of(ALICE), shared_pool("alice")) == 0


@pytest.mark.parametrize("owner", ["alice", "a", "O=Lab,CN=Ünï: *", "x" * 500])
def test_a_folder_says_whose_its_images_are(owner: str, tmp_path: Path) -> None:
    person = Person(owner, frozenset())
    for pool in (pool_of(person), shared_pool(owner), shared_pool(owner, "a.b@c")):
        (tmp_path / pool.folder).mkdir()
        assert parse_pool(pool.folder) == pool
        assert pool.is_of(person)
    assert parse_pool("") == Pool()


def test_the_most_space_is_taken_from_whoever_has_it_on_all_servers(
    start: Start, tmp_path: Path
) -> None:
    one, other = start(100), start(100)
    for number in range(3):
        one.keep(bytes([number]) * 10, ALICE)
    for number in range(3, 15):
        other.keep(bytes([number]) * 10, BOB)
        assert disk_bytes(tmp_path) <= 100
    assert all(has(other, ALICE, bytes([number]) * 10) for number in range(3))
    assert not has(one, BOB, bytes([3]) * 10)
    assert one.used_bytes == other.used_bytes == disk_bytes(tmp_path) == 100


def test_what_others_use_is_evicted_last(start: Start) -> None:
    one, other = start(40), start(40)
    other._claims.heartbeats.look()  # type: ignore[union-attr]
    one.keep(b"first 10 b", ALICE)
    one.keep(b"second 10 ", ALICE)
    assert has(other, ALICE, b"first 10 b")
    one.keep(b"third 10 b", ALICE)
    one.keep(b"fourth 10 ", ALICE)
    one.keep(b"fifth 10 b", ALICE)
    assert has(one, ALICE, b"first 10 b")
    assert not has(one, ALICE, b"second 10 ")


def test_what_one_server_caches_is_there_on_the_others(start: Start) -> None:
    one, other = start(), start()
    for number in range(20):
        content = bytes([number]) * 10
        (one, other)[number % 2].keep(content, ALICE)
        assert has((one, other)[1 - number % 2], ALICE, content)


def test_news_that_went_unheard_are_looked_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingsvision_server.engine.images.news._FILE_BYTES", 100)
    one, other = start(), start()
    for number in range(20):
        one.keep(bytes([number]) * 10, ALICE)
    assert all(has(other, ALICE, bytes([number]) * 10) for number in range(20))
    assert other.used_bytes == 200
    one.delete(one.digests([pool_of(ALICE)]), [pool_of(ALICE)])
    assert other.digests([pool_of(ALICE)]) == []


def test_servers_that_start_while_others_evict_live(start: Start) -> None:
    over = threading.Event()

    def churn() -> None:
        store, number = start(2000), 0
        while not over.is_set():
            number += 1
            store.keep(number.to_bytes(4, "big") * 10, ALICE)

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for _ in range(30):
            assert start(2000).used_bytes <= 2040
    finally:
        over.set()
        churning.join()


def test_an_image_that_two_keep_at_once_is_whole(start: Start, tmp_path: Path) -> None:
    stores = [start(10**7) for _ in range(3)]
    contents = [os.urandom(3000) for _ in range(60)]

    def keep_all(store: ImageStore) -> None:
        for content in contents:
            store.keep(content, ALICE)

    threads = [threading.Thread(target=keep_all, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(has(store, ALICE, content) for store in stores for content in contents)
    assert not any(tmp_path.glob("images/**/.unfinished*"))


def test_a_disk_without_links_has_copies_that_count(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    store = start()
    store.keep(PHOTO, ALICE)
    store.keep(PHOTO, BOB)
    assert store.used_bytes == disk_bytes(tmp_path) == 2 * len(PHOTO)
    assert start().used_bytes == 2 * len(PHOTO)


def test_a_folder_that_can_not_be_read_now_costs_no_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = start(), start()
    store.keep(PHOTO, ALICE)
    scandir = os.scandir

    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "scandir", full)
    other.keep(b"another", ALICE)
    assert has(store, ALICE)
    assert not has(store, ALICE, b"another")
    monkeypatch.setattr(os, "scandir", scandir)
    assert has(store, ALICE, b"another")


def test_a_folder_without_rights_to_write_caches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    monkeypatch.setattr(os, "open", forbidden)
    claims = Claims(tmp_path / "read-only")
    store = ImageStore(tmp_path / "read-only" / "images", 1000, claims)
    store.keep(PHOTO, ALICE)
    assert store.find_missing([DIGEST], ALICE) == [0]
    claims.close()


def test_a_person_has_a_quota_of_shared_and_other_images(start: Start) -> None:
    store = start()
    store.set_quota(1000, 100)
    first, second, third, large = (bytes([65 + place]) * 40 for place in range(4))
    for content in (first, second):
        store.keep(content, ALICE)
        store.keep(content, BOB)
    store.move([hashlib.sha256(second).digest()], pool_of(ALICE), shared_pool("alice", "lab"))
    store.keep(third, ALICE)
    assert [has(store, ALICE, one) for one in (first, second, third)].count(True) == 2
    assert has(store, ALICE, third)
    assert has(store, BOB, first), "another owner keeps the file"
    store.keep(large * 3, ALICE)
    assert not has(store, ALICE, large * 3), "larger than the quota, so nothing gave way for it"
    assert has(store, ALICE, third)
    for place in range(5):
        store.keep(bytes([90 + place]) * 40, MACHINE)
    assert all(has(store, MACHINE, bytes([90 + place]) * 40) for place in range(5))
    store.set_quota(1000, 40)
    assert has(store, ALICE, third)
    assert has(store, BOB, first), "just used"
    assert not has(store, BOB, second)
