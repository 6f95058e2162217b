"""RDMs and PCAs within a device's memory: plans by arithmetic, and bytes that were really held."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest

from support.closeness import assert_close
from thingsvision_server.errors import ExhaustedError
from thingsvision_server.rdm.compare import BLOCK_BYTES, compute_rdm
from thingsvision_server.rdm.computation import FLOAT64, RESIDUES, Computation
from thingsvision_server.rdm.memory import plan_memory
from thingsvision_server.rdm.metrics import METRICS
from thingsvision_server.rdm.pca import compute_pca
from thingsvision_server.rdm.products import find_arithmetic
from thingsvision_server.rdm.rows import ArrayRows

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - if torch is here
from torch.utils._pytree import tree_leaves  # noqa: E402

GIB = 1 << 30
DEVICE = "cpu:0"
COUNT = 400
BUDGET = 900_000
ARITHMETICS = [FLOAT64, RESIDUES]


class Shape:
    """Rows of which nothing but the shape is known."""

    tile_values = 1

    def __init__(self, row_count, value_count):
        self.row_count, self.value_count = row_count, value_count


class CopiedRows(ArrayRows):
    """Rows that take memory of their own on the device."""

    def values(self, start, stop):
        return super().values(start, stop).copy()


class WholeRows(ArrayRows):
    def rows(self, start, stop):
        return self.array[start:stop]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize(
    ("memory_bytes", "most_bands"), [(2 * GIB, 16), (6 * GIB, 4), (12 * GIB, 2), (70 * GIB, 1)]
)
def test_fifty_thousand_images_fit(memory_bytes, most_bands, arithmetic):
    computation = Computation(
        "cuda:0", BLOCK_BYTES, arithmetic=arithmetic, memory_bytes=memory_bytes
    )
    plan = plan_memory(Shape(50_000, 4_096), computation)
    assert plan.peak_bytes <= memory_bytes
    assert plan.keeps_matrix == (memory_bytes > 8 * 50_000**2)
    assert 1 <= len(plan.bands) <= most_bands
    starts, stops = zip(*plan.bands, strict=True)
    assert (*starts, 50_000) == (0, *stops)
    assert max(8 * (stop - start) * stop for start, stop in plan.bands) <= plan.peak_bytes


def test_without_a_limit_the_device_has_the_matrix_and_blocks_are_as_ever():
    computation = Computation("cuda:0", BLOCK_BYTES)
    plan = plan_memory(Shape(50_000, 4_096), computation)
    assert (plan.bands, plan.keeps_matrix) == (((0, 50_000),), True)
    assert computation.block_values(Shape(50_000, 4_096), 50_000) == 512


@pytest.mark.parametrize(("arithmetic", "least"), [(FLOAT64, "140,000"), (RESIDUES, "260,000")])
def test_too_little_memory_is_refused_with_what_is_enough(arithmetic, least):
    """It took minutes, in bands of a row, and more memory than it was given."""
    rows = ArrayRows(np.random.default_rng(0).standard_normal((200, 30)))
    options = {"device": DEVICE, "arithmetic": find_arithmetic(arithmetic, DEVICE)}
    told = f"200 rows must have about {least} bytes of the memory of cpu:0, and 40,000 may be used"
    with pytest.raises(ExhaustedError, match=told):
        compute_rdm(rows, "correlation", memory_bytes=40_000, **options)
    with pytest.raises(ExhaustedError, match=told):
        compute_pca(ArrayRows(np.tile(rows.array, 10)), 3, memory_bytes=40_000, **options)
    enough = int(least.replace(",", ""))
    found = compute_rdm(rows, "correlation", memory_bytes=enough, **options)
    assert_close(found.distances, compute_rdm(rows, "correlation").distances, 1e-6)


def test_the_floor_is_found_at_once_for_any_number_of_rows():
    computation = Computation("cuda:0", BLOCK_BYTES, memory_bytes=64 << 20)
    with pytest.raises(ExhaustedError, match=r"5,000,000 rows must have about [\d,]{15,} bytes"):
        plan_memory(Shape(5_000_000, 4_096), computation)


class HeldBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations of this thread made and that still live."""

    def __init__(self):
        super().__init__()
        self.users, self.sizes = Counter(), {}
        self.peak = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._hold(tensor)
        return result

    def _hold(self, tensor):
        storage = tensor.untyped_storage()
        if storage.nbytes() == 8 * COUNT**2:  # a view of the host's matrix
            return
        key = storage.data_ptr()
        self.users[key] += 1
        self.sizes[key] = storage.nbytes()
        weakref.finalize(tensor, self._drop, key)
        self.peak = max(self.peak, sum(self.sizes.values()))

    def _drop(self, key):
        self.users[key] -= 1
        if not self.users[key]:
            self.sizes.pop(key, None)


def features():
    random = np.random.default_rng(0)
    x = np.maximum(random.standard_normal(90) + random.standard_normal((COUNT, 90)), 0)
    x[300], x[301] = x[3], x[4] * (1 + 1e-8 * random.standard_normal(90))
    return x


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_the_device_holds_no_more_than_it_may(arithmetic):
    rows = CopiedRows(features())
    assert find_arithmetic(arithmetic, DEVICE) == arithmetic  # tried once, with arrays of its own
    options = {"device": DEVICE, "arithmetic": arithmetic, "memory_bytes": BUDGET}
    computation = Computation(block_bytes=BLOCK_BYTES, **options)
    plan = plan_memory(rows, computation)
    assert len(plan.bands) > 2
    assert plan.peak_bytes <= BUDGET
    with HeldBytes() as held:
        found = compute_rdm(rows, "correlation", **options)
    assert found.arithmetic == arithmetic
    assert BUDGET // 4 < held.peak <= BUDGET


@pytest.mark.parametrize("device", ["cpu", DEVICE])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("metric", METRICS)
def test_bands_give_the_same_distances(metric, arithmetic, device):
    rows = ArrayRows(features())
    options = {"device": device, "arithmetic": arithmetic}
    whole = compute_rdm(rows, metric, **options).distances
    seen = []
    found = compute_rdm(
        rows,
        metric,
        **options,
        memory_bytes=BUDGET,
        on_block=lambda *counts: seen.append(counts),
    )
    assert found.arithmetic == arithmetic
    np.testing.assert_allclose(found.distances, whole, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(found.distances, found.distances.T)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[0][1] >= 4  # blocks: all bands are announced at the start


def test_bits_of_residues_do_not_depend_on_the_bands():
    rows = ArrayRows(features()[:, :20])  # one block of values whatever the memory
    found = {
        compute_rdm(
            rows, "euclidean", device=DEVICE, arithmetic=RESIDUES, memory_bytes=memory_bytes
        ).distances.tobytes()
        for memory_bytes in (None, BUDGET, 2 * BUDGET, 1 << 30)
    }
    assert len(found) == 1


def test_a_request_is_cancelled_within_a_band():
    class CancelledError(Exception):
        pass

    calls = []

    def cancel(done, total):
        calls.append(done)
        if len(calls) == 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        compute_rdm(
            ArrayRows(features()),
            "cosine",
            device=DEVICE,
            arithmetic=RESIDUES,
            memory_bytes=BUDGET,
            on_block=cancel,
        )
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("shape", "arithmetic", "used"),
    [((150, 300), FLOAT64, FLOAT64), ((300, 150), RESIDUES, FLOAT64)],
    ids=["N x N in bands", "P x P on the CPU"],
)
def test_a_pca_of_more_than_fits_is_the_same(shape, arithmetic, used):
    rows = WholeRows(np.random.default_rng(0).standard_normal(shape))
    expected = compute_pca(rows, 3)
    found = compute_pca(rows, 3, device=DEVICE, arithmetic=arithmetic, memory_bytes=150_000)
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-10)
    np.testing.assert_allclose(found.axes, expected.axes, rtol=0, atol=1e-6)
    assert found.arithmetic == used
