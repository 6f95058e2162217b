"""Matrices of projections: scikit-learn's, shared, within a budget, and only while wanted."""

from __future__ import annotations

import asyncio
import gc
import time

import numpy as np
import pytest
from sklearn.random_projection import SparseRandomProjection

from thingsvision_server.engine.projections import Projections
from thingsvision_server.engine.reduction import MOST_ENTRIES, Projection, Reduction
from thingsvision_server.errors import ExhaustedError, InvalidRequestError

LARGE = Reduction(projection=Projection(MOST_ENTRIES // 540))
LARGE_SHAPE = (290_400,)


def test_a_matrix_is_scikit_learns_and_shared() -> None:
    projections = Projections(2**30)
    reduction = Reduction(projection=Projection(30, seed=4))
    found = asyncio.run(projections.find(reduction, {"a": (10, 40), "b": (400,)}))
    expected = SparseRandomProjection(30, random_state=4).fit(np.zeros((1, 400), np.float32))
    assert list(found) == [400]
    assert (found[400] != expected.components_.astype(np.float32)).nnz == 0
    again = asyncio.run(projections.find(reduction, {"c": (400,)}))
    assert again[400] is found[400]
    projections.close()


def test_each_row_of_a_matrix_lets_others_have_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    projections = Projections(2**30)
    reduction = Reduction(projection=Projection(30, seed=5))
    asyncio.run(projections.find(reduction, {"a": (400,)}))
    projections.close()
    assert len(pauses) >= 30
    assert min(pauses) > 0


def test_a_matrix_that_nobody_waits_for_is_given_up() -> None:
    async def leave_then_ask() -> float:
        projections = Projections(2**30)
        asked = asyncio.create_task(projections.find(LARGE, {"a": LARGE_SHAPE}))
        await asyncio.sleep(0.3)
        asked.cancel()
        started = time.monotonic()
        # As large, but for fewer values: the same thread makes it.
        await projections.find(Reduction(projection=Projection(5_300)), {"a": (10_000,)})
        projections.close()
        return time.monotonic() - started

    small = Projection(5_300)
    assert small.entry_count(10_000) > 2**19
    assert asyncio.run(leave_then_ask()) < 10  # the large one takes 20 s


def test_matrices_in_use_leave_no_room_for_others() -> None:
    async def ask() -> None:
        projections = Projections(900_000)
        first = await projections.find(Reduction(projection=Projection(800)), {"a": (10_000,)})
        another = Reduction(projection=Projection(800, seed=1))
        with pytest.raises(ExhaustedError, match="others in use take 646,400 of 900,000"):
            await projections.find(another, {"a": (10_000,)})
        del first
        gc.collect()
        await projections.find(another, {"a": (10_000,)})
        projections.close()

    asyncio.run(ask())


def test_a_matrix_that_takes_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"must have at most 31,126 components"):
        Reduction(projection=Projection(290_400)).shape("a", LARGE_SHAPE)


def test_units_are_at_most_the_features() -> None:
    assert Reduction(units=(0,) * 65_536).shape("a", (10,)) == (65_536,)
    with pytest.raises(InvalidRequestError, match=r"must be at most 65,536 \(it has 10 units"):
        Reduction(units=(0,) * 65_537).shape("a", (10,))
