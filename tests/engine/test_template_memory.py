"""The processes that children are forked from count as memory that models can't have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkout import SUPPORT
from support.model_house import SQUEEZENET_BYTES, squeezenet, until, visit, waits
from thingsvision_server.backends.children.guests import GuestRuntime
from thingsvision_server.backends.children.template_memory import TemplateMemory


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Iterator[GuestRuntime]:
    """Guests with a template of their own, which imports little."""
    paths = [str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    running = GuestRuntime(service="support.hostile_guest")
    yield running
    running.close()


async def test_a_template_takes_the_room_of_a_model_while_a_guest_needs_it(
    house: Callable[..., Any], guests: GuestRuntime, tmp_path: Path
) -> None:
    templates = TemplateMemory([lambda: guests.template])
    assert templates.used_bytes == 0  # nothing was uploaded
    guest = guests.guest(tmp_path / "program", "a program")
    with guest.keeper.use():
        assert templates.used_bytes > SQUEEZENET_BYTES
        assert templates.unused_bytes == 0
        count = templates.used_bytes / SQUEEZENET_BYTES + 1.5
        async with house(count, templates) as opened:
            assert opened.residency.template_bytes == templates.used_bytes
            for seed in range(2):
                await visit(opened, squeezenet(seed))
            assert [one.key for one in opened.residency.residents()] == [squeezenet(1)]
            assert opened.residency.budget_bytes > templates.used_bytes  # the budget is whole


async def test_a_template_that_no_guest_needs_ends_for_a_model(
    house: Callable[..., Any], guests: GuestRuntime, tmp_path: Path
) -> None:
    templates = TemplateMemory([lambda: guests.template])
    guest = guests.guest(tmp_path / "program", "a program")
    with guest.keeper.use():
        pass
    guests.forget(guest.path)
    assert templates.unused_bytes == templates.used_bytes > SQUEEZENET_BYTES
    async with house(templates.used_bytes / SQUEEZENET_BYTES + 1.5, templates) as opened:
        await opened.residency.pin(squeezenet(0), True)
        assert templates.used_bytes
        await opened.residency.pin(squeezenet(1), True)
        await until(lambda: not templates.used_bytes)
    with guests.guest(tmp_path / "program", "a program").keeper.use():
        assert templates.used_bytes  # it started again


async def test_a_load_gets_what_a_template_took_when_it_has_ended(
    house: Callable[..., Any], guests: GuestRuntime, tmp_path: Path
) -> None:
    templates = TemplateMemory([lambda: guests.template])
    guest = guests.guest(tmp_path / "program", "a program")
    with guest.keeper.use():
        count = templates.used_bytes / SQUEEZENET_BYTES + 1.5
    async with house(count, templates) as opened, opened.residency.lease(squeezenet(0)):
        with guest.keeper.use():
            waiting = asyncio.create_task(visit(opened, squeezenet(1)))
            await until(lambda: waits(opened, squeezenet(1)))
        guests.forget(guest.path)
        await asyncio.wait_for(waiting, 30)  # nothing tells the queue of it: it looks itself
