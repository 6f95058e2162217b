"""Inputs lie side by side in lent buffers, which nobody gets while a pass may still read them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from support.closeness import assert_close
from support.delayed_streams import DelayedLanes, ForgetfulPool
from thingsvision_server.backends.staging import use_staging
from thingsvision_server.backends.taps import Tap, taps
from thingsvision_server.backends.torch.device import core_count, use_cores
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.engine.passes.batcher import Batcher
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.limits import BatchLimits
from thingsvision_server.engine.passes.slots import InputSlots, Slot, join_neighbours
from thingsvision_server.engine.passes.stream import BatchStream, Hole, PreparedImage
from thingsvision_server.inputs import IMAGE, InputSpec
from thingsvision_server.monitoring.metrics import Metrics

SPEC = InputSpec((3, 8, 8))


def image(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(SPEC.shape, np.float32)


def filled(slots: InputSlots, count: int) -> list[tuple[Any, Slot | None]]:
    taken = [slots.take() for _ in range(count)]
    return [(slot.fill(image(number)), slot) for number, slot in enumerate(taken)]


def test_a_batch_of_an_exact_stream_is_one_piece_that_is_not_copied() -> None:
    slots = InputSlots(SPEC, 5, exact=True)
    for _ in range(2):
        inputs = filled(slots, 5)
        (piece,) = join_neighbours(inputs)
        assert np.shares_memory(piece, inputs[0][0])
        np.testing.assert_array_equal(piece, [image(number) for number in range(5)])


def test_neighbours_stay_together_and_others_become_pieces_of_their_own() -> None:
    one, two = (filled(InputSlots(SPEC, 8, exact=True), 8) for _ in range(2))
    mixed = [*one[2:5], (image(100), None), *two[:2], two[4], one[5]]
    found = join_neighbours(mixed)
    assert [len(piece) for piece in found] == [3, 1, 2, 1, 1]
    np.testing.assert_array_equal(np.concatenate(found), [values for values, _ in mixed])


def test_an_input_of_another_type_stays_where_it_is() -> None:
    slot = InputSlots(SPEC, 2, exact=True).take()
    wide = image(0).astype(np.float64)
    assert slot.fill(wide) is wide
    (piece,) = join_neighbours([(wide, slot)])
    assert piece.dtype == np.float64


def test_buffers_of_large_inputs_are_limited() -> None:
    slots = InputSlots(InputSpec((3, 4096, 4096)), 64, exact=True)
    taken = [slots.take() for _ in range(64)]
    assert len({id(slot.buffer) for slot in taken}) > 1
    assert [slot.row for slot in taken][:1] == [0]


@pytest.fixture
def pool() -> Iterator[ForgetfulPool]:
    with use_staging(ForgetfulPool(2**22)) as made:
        yield made


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, tuple[Tap, ...]]:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5))
    return made, taps(describe(made, {IMAGE: Tower(made, SPEC)}), ["0", "3"])


def put(stream: BatchStream, seed: int) -> None:
    slot = stream.slots.take()
    stream.put(PreparedImage(f"{seed}", slot.fill(image(seed)), time.monotonic(), slot))


async def read(stream: BatchStream) -> list[np.ndarray[Any, Any]]:
    async with aclosing(stream.results()) as results:
        parts = [rows.arrays async for rows in results if rows.arrays]  # not of holes alone
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def joined(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the rows of all modules in one array, which refers to none of them."""
    return np.hstack([rows.reshape(len(rows), -1) for rows in arrays])


@pytest.mark.parametrize("batch_size", [0, 4])
async def test_slots_are_filled_again_only_after_their_batch_was_copied(
    network: tuple[nn.Module, tuple[Tap, ...]], pool: ForgetfulPool, batch_size: int
) -> None:
    root, tapped = network
    lanes = DeviceLanes("cpu", Cores(core_count(), use_cores), 2)
    model = TorchModel(root, "cpu", open_streams=DelayedLanes())
    batcher = Batcher(model, lanes, BatchLimits(4, 2**24), Metrics())
    with batcher.open(ForwardSpec(tapped, SPEC), batch_size) as stream:
        for seed in range(30):
            if seed in (0, 5, 29):
                stream.put(Hole(seed, time.monotonic(), "broken", stream.slots.take()))
            else:
                put(stream, seed)
        stream.end()
        found = await read(stream)
    lanes.close()
    whole = [seed for seed in range(30) if seed not in (0, 5, 29)]
    expected = TorchModel(root, "cpu").run([np.stack(list(map(image, whole)))], tapped).rows
    assert_close(joined(found), joined(expected))
    await batcher.drain()
    del found, expected, stream, batcher, model
    await asyncio.sleep(0)  # the batcher's task ends
    gc.collect()
    pool.trim()
    assert pool.held_bytes == 0, "all memory came back"
