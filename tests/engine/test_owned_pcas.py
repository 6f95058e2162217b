"""PCAs belong to people: names are each person's, and nobody changes or sees another's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.written_pcas import ADA, LINE, WORK, described, numbers
from thingsvision_server.access.owners import Owners
from thingsvision_server.access.person import Person, person_of_peer
from thingsvision_server.access.scopes import Scope
from thingsvision_server.engine.pca.fitted import PCA, PCARecord
from thingsvision_server.engine.pca.store import PCAStore
from thingsvision_server.errors import (
    InvalidRequestError,
    PCAMismatchError,
    PermissionDeniedError,
    StorageError,
    UnknownPCAError,
)

BOB, EVE = Person("bob", WORK), Person("eve", WORK)
ROOT = Person("root", frozenset({Scope.ADMIN}))
NOBODY = person_of_peer("ipv4:127.0.0.1")
OTHER = LINE * 2


@pytest.fixture
def store(tmp_path: Path) -> PCAStore:
    return PCAStore(tmp_path / "pca", 2**30)


def keep(
    store: PCAStore, person: Person, images: str = LINE, *, name: str = "set", shared: bool = False
) -> PCARecord:
    return store.keep(described(images, name), images, numbers(), person, shared=shared)


def find(store: PCAStore, wanted: str, person: Person) -> PCA:
    description = described(LINE)
    return store.find(wanted, description.facts, description.shapes, person)


def refusal(store: PCAStore, wanted: str, person: Person) -> str:
    with pytest.raises(UnknownPCAError) as caught:
        find(store, wanted, person)
    with pytest.raises(UnknownPCAError) as again:
        store.delete(wanted, person)
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def test_people_have_names_of_their_own(store: PCAStore) -> None:
    hers, his = keep(store, ADA), keep(store, BOB, OTHER)
    assert hers.sha256 != his.sha256
    for person, record in ((ADA, hers), (BOB, his)):
        assert find(store, "set", person).record == record
        assert [one.sha256 for one in store.records(person)] == [record.sha256]
        assert (record.owners, record.is_shared) == ((person.name,), False)
    with pytest.raises(InvalidRequestError, match="already exists for the same features"):
        keep(store, BOB)


def test_a_stranger_hears_the_same_as_of_a_pca_that_is_not_there(store: PCAStore) -> None:
    record = keep(store, ADA)
    nothing = "0" * 64
    said = refusal(store, record.sha256, EVE)
    assert said == refusal(store, nothing, EVE).replace(nothing, record.sha256)
    assert refusal(store, "set", EVE) == refusal(store, "sot", EVE).replace("sot", "set")
    assert store.records(EVE) == []
    assert store.ownership(record.sha256, EVE) == store.ownership(nothing, EVE) == []
    assert not store.share(record.sha256, EVE, shared=True)
    assert not store.share(nothing, EVE, shared=True)
    assert find(store, "set", ADA).record == record


def test_what_is_shared_is_used_by_its_digest_and_changed_by_nobody_else(store: PCAStore) -> None:
    record = keep(store, ADA, shared=True)
    assert record.is_shared
    used = find(store, record.sha256, BOB).record
    assert (used.name, used.owners, used.is_own) == ("set", ("ada",), False)
    with pytest.raises(UnknownPCAError) as caught:
        find(store, "set", BOB)
    said = str(caught.value)
    assert said == (
        "you have no PCA 'set'. ada shares a PCA of that name with you: name it by its SHA-256, "
        f"{record.sha256}"
    )
    with pytest.raises(PermissionDeniedError, match="belongs to ada, who shares it with you"):
        store.delete(record.sha256, BOB)
    assert not store.share(record.sha256, BOB, shared=False)
    # Bob may still have a PCA of that name, and then means it.
    his = keep(store, BOB, OTHER)
    assert find(store, "set", BOB).record == his
    assert [one.name for one in store.records(BOB)] == ["set", "set"]
    assert store.share(record.sha256, ADA, shared=False)
    assert record.sha256 not in {one.sha256 for one in store.records(BOB)}
    assert find(store, "set", ADA).record == record


def test_the_bytes_go_with_the_last_owner(store: PCAStore, tmp_path: Path) -> None:
    """Two people who fit the same on the same images share the file, and nothing else."""
    hers, his = keep(store, ADA), keep(store, BOB)
    assert hers.sha256 == his.sha256
    assert his.owners == ("bob",)
    assert store.delete("set", ADA) == 0
    refusal(store, hers.sha256, ADA)
    assert find(store, "set", BOB).record == his
    assert store.delete(his.sha256, BOB) == his.size_bytes
    assert [path.name for path in (tmp_path / "pca").iterdir()] == ["owners"]
    assert list((tmp_path / "pca" / "owners").glob("*/*.json")) == []


def test_an_admin_sees_uses_and_deletes_all(store: PCAStore) -> None:
    hers, his = keep(store, ADA), keep(store, BOB, OTHER)
    assert {one.owners for one in store.records(ROOT)} == {("ada",), ("bob",)}
    with pytest.raises(PCAMismatchError, match=r"of (ada|bob) and .* of (ada|bob) both fit"):
        find(store, "set", ROOT)
    with pytest.raises(InvalidRequestError, match="2 PCAs are called 'set'"):
        store.delete("set", ROOT)
    assert find(store, hers.sha256, ROOT).record == hers
    assert store.share(hers.sha256, ROOT, shared=True)
    assert find(store, hers.sha256, BOB).record == hers
    assert store.delete(his.sha256, ROOT) == his.size_bytes
    refusal(store, "set", Person("cat", WORK, group="vision"))
    # Of an admin's own and another's, the name means the admin's own.
    own = keep(store, ROOT, OTHER)
    assert find(store, "set", ROOT).record == own


def test_what_was_there_before_is_the_operators_and_shared(store: PCAStore, tmp_path: Path) -> None:
    record = keep(store, NOBODY)
    shutil.rmtree(tmp_path / "pca" / "owners")
    store = PCAStore(tmp_path / "pca", 2**30)
    # A person without a name, from wherever, means it by its name, as before.
    assert find(store, "set", person_of_peer("unix:")).record == record
    assert keep(store, person_of_peer("unix:")).sha256 == record.sha256
    used = find(store, record.sha256, ADA).record
    assert (used.owners, used.is_shared, used.name) == (("admin",), True, "set")
    with pytest.raises(PermissionDeniedError, match="belongs to admin"):
        store.delete(record.sha256, ADA)
    # Who fits the same owns it too, and the others keep it.
    assert keep(store, ADA).owners == ("ada", "admin")
    assert find(store, "set", ADA).record == record
    assert store.delete("set", ADA) == 0
    assert find(store, record.sha256, ADA).record == record
    assert store.delete("set", ROOT) == record.size_bytes


def test_a_name_means_the_same_after_another_persons_pcas_came_along(
    store: PCAStore, tmp_path: Path
) -> None:
    hers = keep(store, ADA, shared=True)
    os.utime(tmp_path / "pca" / f"{hers.sha256}.safetensors", (0, 0))  # older than his
    other, his = keep(store, ADA, name="other"), keep(store, BOB, OTHER)
    both = keep(store, ADA, name="both"), keep(store, BOB, name="both")
    assert store.move_owner("ada", "bob") == 3
    assert not any(one.is_own for one in store.records(ADA))
    assert find(store, "set", BOB).record == his
    moved = find(store, "set (ada)", BOB).record
    assert (moved.sha256, moved.is_shared) == (hers.sha256, True)
    assert find(store, hers.sha256, EVE).record.owners == ("bob",)
    assert find(store, "other", BOB).record == other
    assert find(store, "both", BOB).record == both[0]
    assert store.move_owner("ada", "bob") == store.move_owner("bob", "bob") == 0
    assert store.move_owner("bob", "admin") == 4
    assert find(store, "set", NOBODY).record == his


def test_no_name_is_nobodys(store: PCAStore) -> None:
    keep(store, ADA, name="")
    with pytest.raises(UnknownPCAError):
        store.delete("", ADA)


def test_what_a_killed_server_was_deleting_is_gone_at_the_next_start(
    store: PCAStore, tmp_path: Path
) -> None:
    record, kept = keep(store, ADA), keep(store, BOB, OTHER)
    assert Owners(tmp_path / "pca" / "owners").drop(record.sha256, ADA)
    assert store.records(ROOT) == [kept]
    PCAStore(tmp_path / "pca", 2**30)
    assert [path.stem for path in (tmp_path / "pca").glob("*.safetensors")] == [kept.sha256]
    left = (tmp_path / "pca" / "owners").glob("*/*.json")
    assert [path.parent.name for path in left] == [kept.sha256]


def test_a_persons_quota_is_checked_before_the_work(tmp_path: Path) -> None:
    store = PCAStore(tmp_path / "pca", 2**30, person_bytes=2**30)
    used = keep(store, ADA).size_bytes
    new = described(OTHER, "other")
    store.set_quotas(2**30, used + new.least_bytes)
    store.check_new(new, ADA)
    store.set_quotas(2**30, used + new.least_bytes - 1)
    with pytest.raises(StorageError, match=rf"ada use {used:,} of"):
        store.check_new(new, ADA)
    store.check_new(described(LINE, "set"), ADA)
    for person in (BOB, NOBODY):
        store.check_new(new, person)
    keep(store, NOBODY, OTHER, name="other")
    with pytest.raises(StorageError, match="ada use"):
        keep(store, ADA, OTHER, name="other")
