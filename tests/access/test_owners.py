"""Who owns what is stored, who may see it, and what is left when a server is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thingsvision_server.access.owners import EVERYBODY, OPERATOR, Owners, owner_name
from thingsvision_server.access.person import Person, person_of_peer
from thingsvision_server.access.scopes import Scope
from thingsvision_server.shared_folder.claims import Claims

WORK = frozenset({Scope.READ, Scope.EXTRACT, Scope.UPLOAD})
ADA, BOB = Person("ada", WORK), Person("bob", WORK, group="vision")
CAT, EVE = Person("cat", WORK, group="vision"), Person("eve", WORK)
ROOT = Person("root", frozenset({Scope.ADMIN}))
NOBODY = person_of_peer("ipv4:127.0.0.1")
THING = "a" * 64


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return Owners(tmp_path / "owners")


def seers(owners: Owners) -> str:
    people = (ADA, BOB, CAT, EVE, ROOT, NOBODY)
    return " ".join(one.name[:4] for one in people if owners.may_see(THING, one))


def test_what_a_person_stores_is_the_persons_and_an_admins(owners: Owners) -> None:
    owners.add(THING, ADA, is_stored=False, facts={"name": "my weights"})
    assert seers(owners) == "ada root ipv4"
    assert [row.owner for row in owners.of(THING)] == ["ada"]
    assert owners.of_person(THING, EVE) is None
    found = owners.of_person(THING, ADA)
    assert found is not None
    assert found.facts == {"name": "my weights"}


def test_each_owner_has_facts_of_their_own_and_the_last_takes_the_thing_along(
    owners: Owners,
) -> None:
    owners.add(THING, ADA, is_stored=False, facts={"name": "first"})
    owners.add(THING, EVE, is_stored=True, facts={"name": "second"})
    assert [row.facts["name"] for row in owners.visible(THING, ADA)] == ["first"]
    assert [row.facts["name"] for row in owners.visible(THING, EVE)] == ["second"]
    assert [row.owner for row in owners.visible(THING, ROOT)] == ["ada", "eve"]
    assert not owners.drop(THING, ADA)
    assert seers(owners) == "eve root ipv4"
    assert not owners.drop(THING, BOB)  # who owns nothing of it removes nothing
    assert owners.drop(THING, EVE)
    assert seers(owners) == ""
    owners.forget(THING)
    assert owners.of(THING) == []


@pytest.mark.parametrize(
    ("owner", "seen_by"), [(ADA, "ada bob cat eve root ipv4"), (BOB, "bob cat root ipv4")]
)
def test_an_owner_shares_with_the_group_or_everybody(
    owners: Owners, owner: Person, seen_by: str
) -> None:
    owners.add(THING, owner, is_stored=False, facts={"name": "n"})
    assert owners.share(THING, owner, shared=True)
    assert seers(owners) == seen_by
    # Adding it again, without a word on sharing, changes nothing.
    owners.add(THING, owner, is_stored=True)
    assert seers(owners) == seen_by
    assert owners.of(THING)[0].facts == {"name": "n"}
    assert not owners.share(THING, CAT, shared=False)  # not the sharer's
    assert owners.share(THING, owner, shared=False)
    assert seers(owners) == f"{owner.name} root ipv4"
    assert owners.share(THING, ROOT, shared=True)
    assert seers(owners) == "ada bob cat eve root ipv4"


def test_what_was_there_before_is_the_operators_and_shared(owners: Owners) -> None:
    assert seers(owners) == "ada bob cat eve root ipv4"
    assert [row.owner for row in owners.of(THING)] == [OPERATOR]
    assert not owners.drop(THING, ADA)
    # A person who sends the same bytes owns them too; they are not taken from the others.
    owners.add(THING, ADA, is_stored=True)
    assert [row.owner for row in owners.of(THING)] == [OPERATOR, "ada"]
    assert not owners.drop(THING, ADA)
    assert seers(owners) == "ada bob cat eve root ipv4"
    assert owners.share(THING, ROOT, shared=False)
    assert seers(owners) == "root ipv4"
    assert owners.drop(THING, ROOT)


def test_people_without_names_share_all_also_when_tokens_come(owners: Owners) -> None:
    """Another address of the same machine, or a restart, loses nobody's things."""
    owners.add(THING, NOBODY, is_stored=False, facts={"name": "n"})
    elsewhere = person_of_peer("unix:/run/tv.sock")
    assert owner_name(elsewhere) == OPERATOR
    found = owners.of_person(THING, elsewhere)
    assert found is not None
    assert found.facts == {"name": "n"}
    assert found.shared_with == EVERYBODY
    assert seers(owners) == "ada bob cat eve root ipv4"
    assert owners.drop(THING, elsewhere)


def test_what_two_owners_shared_with_two_groups_is_shared_with_both(owners: Owners) -> None:
    dan, fay = Person("dan", WORK, group="language"), Person("fay", WORK, group="language")
    for owner in (BOB, dan):
        owners.add(THING, owner, is_stored=True, shared=True)
    assert owners.move("bob", "dan", [THING]) == 1
    assert [row.shared_with for row in owners.of(THING) if row.owner == "dan"] == [
        "@language,@vision"
    ]
    owners.share(THING, ROOT, shared=False)
    owners.add(THING, dan, is_stored=True, shared=True)
    owners.add(THING, CAT, is_stored=True, shared=True)
    assert owners.move("dan", "cat", [THING]) == 1
    assert [one.name for one in (CAT, dan, fay, EVE) if owners.may_see(THING, one)] == [
        *("cat", "dan", "fay")
    ]
    owners.add(THING, EVE, is_stored=True, shared=True)
    assert owners.move("cat", "eve", [THING]) == 1
    assert owners.may_see(THING, ADA), "one shared it with everybody"


def test_things_move_to_another_owner(owners: Owners) -> None:
    other, before = "b" * 64, "c" * 64
    owners.add(THING, ADA, is_stored=False, shared=True, facts={"name": "ada's"})
    owners.add(THING, EVE, is_stored=True, facts={"name": "eve's"})
    owners.add(other, ADA, is_stored=False, facts={"name": "ada's other"})
    assert owners.move("ada", "eve", [THING, other, before]) == 2
    assert [(row.owner, row.facts["name"]) for row in owners.of(THING)] == [("eve", "eve's")]
    assert owners.of(THING)[0].is_shared
    assert [(row.owner, row.shared_with) for row in owners.of(other)] == [("eve", "")]
    assert owners.move(OPERATOR, "bob", [before]) == 1
    assert [row.owner for row in owners.of(before)] == ["bob"]
    assert owners.move("eve", "eve", [THING]) == owners.move("nobody", "eve", [THING]) == 0


def test_a_damaged_record_is_not_shared_and_still_its_owners(
    owners: Owners, tmp_path: Path
) -> None:
    owners.add(THING, ADA, is_stored=False, shared=True)
    next(tmp_path.glob("owners/a*/*.json")).write_bytes(b"")  # as after a loss of power
    assert seers(owners) == "ada root ipv4"
    assert owners.share(THING, ADA, shared=True)
    assert seers(owners) == "ada bob cat eve root ipv4"


_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open")


def killed_at(step: int, owners: Owners) -> bool:
    """Have a child process add an owner and remove all, killed before a change of the folder."""
    child = os.fork()
    if child == 0:
        left = iter(range(step))

        def count(event: str, _arguments: object) -> None:
            if event in _CHANGES and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        owners.add(THING, EVE, is_stored=True)
        owners.drop(THING, ADA)
        owners.drop(THING, EVE)
        owners.forget(THING)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def test_a_server_killed_at_any_moment_shows_nobody_what_is_not_theirs(tmp_path: Path) -> None:
    kills, claims = 0, Claims(tmp_path / "claims")
    for step in range(40):
        folder = tmp_path / str(step)
        Owners(folder).add(THING, ADA, is_stored=False)
        was_killed = killed_at(step, Owners(folder))
        kills += was_killed
        owners = Owners(folder, claims)
        if was_killed:
            recorded = owners.recorded()
            assert not recorded or not owners.may_see(THING, BOB)
            assert not recorded or {row.owner for row in owners.of(THING)} <= {"ada", "eve"}
            owners.drop(THING, ROOT)
            owners.forget(THING)
        assert owners.of(THING) == []
        assert [path.name for path in folder.iterdir()] == [THING]
    assert 5 < kills < 40


def test_many_at_once_leave_whole_records(owners: Owners, tmp_path: Path) -> None:
    people = [Person(f"p{number}", WORK) for number in range(8)]

    def work(person: Person) -> None:
        mine = Owners(tmp_path / "owners")  # as another server
        for _ in range(15):
            mine.add(THING, person, is_stored=False, facts={"name": person.name})
            assert mine.of_person(THING, person)
            if mine.drop(THING, person):
                mine.forget(THING)
        mine.add(THING, person, is_stored=False, facts={"name": person.name})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, people))
    assert {row.owner for row in owners.of(THING)} == {one.name for one in people}
    for path in tmp_path.glob("owners/a*/*.json"):
        assert json.loads(path.read_bytes())["facts"]["name"].startswith("p")
