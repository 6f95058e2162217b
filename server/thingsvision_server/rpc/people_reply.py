"""Tells what people use of this server: by name to who may know, else added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..access.owners import sees_all
from ..access.person import Person
from ..monitoring.usage import OTHERS, RecentUse

_MOST_ROWS = 20

_Row = tuple[str, RecentUse]


def people_messages(
    uses: Mapping[str, RecentUse], person: Person, address: str
) -> list[pb.PersonUse]:
    """Return the rows of people that a person may see, then a row of all others.

    Who is not an admin sees their own row alone. Without a call in progress, images that wait, or
    use within the last minute, others are left out; the call that asks does not count.
    """
    own = uses.get(person.name, RecentUse())
    own = replace(own, call_count=max(0, own.call_count - 1))
    others = [(name, use) for name, use in uses.items() if name != person.name and _is_at_work(use)]
    others.sort(key=_busiest_first)
    shown = _MOST_ROWS if sees_all(person) else 0
    named = [row for row in others if row[0] not in ("", OTHERS)][:shown]
    rows = [_message(name, [use], address) for name, use in named]
    if person.name and (_is_at_work(own) or not shown):
        rows.insert(0, _message(person.name, [own], address))
    names = {name for name, _ in named}
    left = [use for name, use in others if name not in names]
    return [*rows, *total_messages(left, address)]


def total_messages(uses: Iterable[RecentUse], address: str) -> list[pb.PersonUse]:
    """Return one row of all people who are at work, without a name; none if nobody is."""
    found = [use for use in uses if _is_at_work(use)]
    return [_message("", found, address)] if found else []


def _message(name: str, uses: list[RecentUse], address: str) -> pb.PersonUse:
    return pb.PersonUse(
        name=name,
        person_count=len(uses),
        call_count=sum(one.call_count for one in uses),
        waiting_image_count=sum(one.queued_count for one in uses),
        waiting_seconds=max(one.queued_seconds for one in uses),
        device_seconds=sum(one.device_seconds for one in uses),
        image_count=sum(one.image_count for one in uses),
        server=address,
    )


def _is_at_work(use: RecentUse) -> bool:
    return bool(use.call_count or use.queued_count or use.device_seconds or use.image_count)


def _busiest_first(row: _Row) -> tuple[float, int, int, str]:
    name, use = row
    return -use.device_seconds, -use.queued_count, -use.call_count, name
