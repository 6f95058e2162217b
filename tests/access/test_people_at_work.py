"""Who uses a server, as `status` tells: all to an admin, to others themselves and totals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.lab import Lab
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.cli import app
from thingsvision_client.values.records import PersonUse, Residency
from thingsvision_server.access.person import Person
from thingsvision_server.access.scopes import Scope
from thingsvision_server.monitoring.usage import RecentUse, UsageBook
from thingsvision_server.rpc.people_reply import people_messages, total_messages

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.2"
ADMIN = Person("root", frozenset({Scope.ADMIN}))


def by_name(residency: Residency) -> dict[str, PersonUse]:
    found = {one.name: one for one in residency.people}
    assert len(found) == len(residency.people)
    return found


def test_an_admin_sees_all_people_and_others_themselves_and_totals(
    lab: Lab, lab_server: TestServer, photos: list[Path]
) -> None:
    scopes = dict.fromkeys(("work-ann", "work-ben", "work-eve"), (Scope.READ, Scope.EXTRACT))
    tokens = {name: lab.add_token(name, *its) for name, its in scopes.items()}
    tokens["work-root"] = lab.add_token("work-root", Scope.ADMIN)
    lab_server.running.access.look()
    address = f"grpcs://{lab_server.address}"
    more = threading.Event()

    def images() -> Iterator[tuple[str, bytes]]:
        for place in range(3):
            yield str(place), photos[place].read_bytes()
        more.wait(60)

    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(Client(address, token=token, ca=lab.ca))
            for name, token in tokens.items()
        }
        ben = clients["work-ben"]
        ben.extract(MODEL, [(str(place), photos[place].read_bytes()) for place in (0, 1)], MODULE)
        # The batch is not full, so its images wait until their client goes on.
        held = clients["work-ann"].stream(MODEL, images(), MODULE, batch_size=4)
        reader = threading.Thread(target=lambda: list(held))
        reader.start()
        stack.callback(more.set)
        end = time.monotonic() + 20
        while True:
            seen = by_name(clients["work-root"].residency())
            if "work-ann" in seen and seen["work-ann"].waiting_image_count == 3:
                break
            assert time.monotonic() < end, seen
            time.sleep(0.02)

        ann, seen_ben = seen["work-ann"], seen["work-ben"]
        assert (ann.call_count, ann.person_count, ann.device_seconds) == (1, 1, 0)
        later = by_name(clients["work-root"].residency())["work-ann"]
        assert later.waiting_seconds > ann.waiting_seconds > 0
        assert (seen_ben.image_count, seen_ben.call_count) == (2, 0)
        assert (seen_ben.waiting_image_count, seen_ben.waiting_seconds) == (0, 0)
        assert seen_ben.device_seconds > 0
        assert "work-root" not in seen, "an admin who only asks is not at work"

        own = by_name(ben.residency())
        assert own.keys() == {"work-ben", ""}
        assert own["work-ben"].image_count == 2
        # Other tests' people may have been at work within the last minute.
        assert own[""].person_count >= 1
        assert own[""].waiting_image_count >= 3
        assert own[""].call_count >= 1
        idle = by_name(clients["work-eve"].residency())
        assert idle.keys() == {"work-eve", ""}
        assert idle["work-eve"] == PersonUse("work-eve", 1, 0, 0, 0.0, 0.0, 0)
        assert idle[""].person_count >= 2
        assert idle[""].device_seconds >= seen_ben.device_seconds

        shown = {name: status(lab, lab_server, tokens[name]) for name in ("work-root", "work-ben")}
        assert {"work-ann", "work-ben"} <= shown["work-root"].keys()
        assert shown["work-root"]["work-ann"][:2] == ["1", "3"]
        assert "work-ann" not in shown["work-ben"]
        assert len(shown["work-ben"]) == 2
        assert "work-ben" in shown["work-ben"]
        told = json.loads(run(lab, lab_server, tokens["work-ben"], "--json"))
        assert [one["name"] for one in told["people"]] == ["work-ben", ""]

        more.set()
        reader.join(60)
        after = by_name(clients["work-root"].residency())["work-ann"]
        assert (after.waiting_image_count, after.waiting_seconds, after.call_count) == (0, 0, 0)
        assert after.image_count == 3


def run(lab: Lab, server: TestServer, token: str, *options: str) -> str:
    address = f"grpcs://{server.address}"
    given = ["--server", address, "--ca", str(lab.ca), "status", *options]
    done = CliRunner().invoke(app, given, env={"THINGSVISION_TOKEN": token})
    assert done.exit_code == 0, done.output
    return done.stdout


def status(lab: Lab, server: TestServer, token: str) -> dict[str, list[str]]:
    """Return the table of people that `status --watch` shows, by the first word of its rows."""
    text = run(lab, server, token, "--watch", "--count", "1", "--seconds", "0.1")
    table = text.partition("\nperson ")[2].partition("\n\n")[0]
    return {row.split()[0]: row.split()[1:] for row in table.splitlines()[1:]}


def test_a_server_without_tokens_tells_addresses(server: TestServer, photos: list[Path]) -> None:
    with Client(server.address) as client:
        client.extract(MODEL, [("one", photos[0].read_bytes())], MODULE)
        found = by_name(client.residency())
    (name,) = [name for name in found if name]
    assert name == "ipv4:127.0.0.1"
    assert found[name].image_count >= 1
    assert found[name].call_count == 0, "the call that asks doesn't count"


def test_the_busiest_twenty_have_rows_and_the_rest_one() -> None:
    uses = {f"p{place}": RecentUse(device_seconds=place + 1.0, call_count=1) for place in range(25)}
    uses |= {"idle": RecentUse(), "root": RecentUse(call_count=2, queued_count=4)}
    rows = people_messages(uses, ADMIN, "here:1")
    assert [one.name for one in rows] == ["root", *(f"p{place}" for place in range(24, 4, -1)), ""]
    assert (rows[0].call_count, rows[0].waiting_image_count) == (1, 4)
    assert (rows[-1].person_count, rows[-1].call_count, rows[-1].device_seconds) == (5, 5, 15.0)
    assert {one.server for one in rows} == {"here:1"}


def test_an_announcement_has_no_names() -> None:
    """All users of the machine may read the file."""
    (row,) = total_messages([RecentUse(call_count=1), RecentUse(queued_count=2), RecentUse()], "")
    assert (row.name, row.person_count, row.call_count, row.waiting_image_count) == ("", 2, 1, 2)
    assert total_messages([RecentUse()], "") == []


@pytest.mark.parametrize("person", ["ann", "other"])
def test_use_is_forgotten_after_a_minute_and_the_oldest_image_counts(person: str) -> None:
    now = 100.0
    book = UsageBook(lambda: now)
    book.add(person, device_seconds=2.0, image_count=3, call_count=1)
    now = 130.5
    book.add(person, device_seconds=0.5, queued_count=5)
    book.note_oldest(person, "first", 120.5)
    book.note_oldest(person, "second", 110.5)
    assert book.recent()[person] == RecentUse(2.5, 3, 5, 20.0, 1)
    book.note_oldest("somebody else", "third", 115.0)
    assert book.oldest_wait_seconds() == 20.0
    book.note_oldest("somebody else", "third", None)
    book.note_oldest(person, "second", None)
    now = 160.5
    assert book.recent()[person] == RecentUse(0.5, 0, 5, 40.0, 1)
    now = 200.0
    book.note_oldest(person, "first", None)
    assert book.recent()[person] == RecentUse(0.0, 0, 5, 0.0, 1)
    assert book.oldest_wait_seconds() == 0.0
    assert book.copy()[person].device_seconds == 2.5
