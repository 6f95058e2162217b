"""Where RDMs and PCAs run: which arithmetic a GPU gets, and what happens when memory is short."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import numpy as np
import pytest

from thingsvision_server.backends.base import OutOfDeviceMemoryError
from thingsvision_server.backends.torch.device import has_fast_float64
from thingsvision_server.engine.analysis_device import AnalysisDevice
from thingsvision_server.engine.comparing import AnalysisLimits, Comparer
from thingsvision_server.engine.pca.fitting import Fitter
from thingsvision_server.engine.progress import Progress
from thingsvision_server.engine.rows.spool import SpoolColumn
from thingsvision_server.errors import ExhaustedError
from thingsvision_server.rdm.computation import FLOAT64, RESIDUES

MIB = 1 << 20
LIMITS = AnalysisLimits(features_bytes=MIB, rdm_bytes=MIB, spill_dir=None)
COLUMN = SpoolColumn("features.3", 40, "float32")


@pytest.mark.parametrize(
    ("capability", "is_fast"),
    [
        ((7, 0), True),  # V100
        ((8, 0), True),  # A100
        ((9, 0), True),  # H100, H200
        ((7, 5), False),  # T4, RTX 20
        ((8, 6), False),  # A10, A40, RTX 30
        ((8, 9), False),  # L4, L40, RTX 40
        ((12, 0), False),  # RTX 50
    ],
)
def test_gpus_for_computing_have_fast_float64(capability, is_fast):
    assert has_fast_float64(capability) == is_fast


def last(steps):
    async def collect():
        return [step async for step in steps if not isinstance(step, Progress)]

    return asyncio.run(collect())[-1]


def features():
    return np.random.default_rng(0).standard_normal((30, 40)).astype("float32")


def spool_of(stack, opener):
    spool = stack.enter_context(opener([COLUMN]))
    spool.append([features()])
    return spool


@pytest.mark.parametrize("arithmetic", [FLOAT64, RESIDUES])
def test_rdms_and_pcas_are_computed_with_the_devices_arithmetic(arithmetic):
    device = AnalysisDevice("cpu:0", arithmetic, lambda: 256 * MIB)
    comparer, fitter = Comparer(device, LIMITS), Fitter(device, LIMITS, 3)
    with ExitStack() as stack:
        spool = spool_of(stack, comparer.open_spool)
        [rdm] = last(comparer.compare(spool, ["features.3"], "correlation"))
        [pca] = last(fitter.fit(spool))
    assert (rdm.arithmetic, pca.arithmetic) == (arithmetic, arithmetic)
    np.testing.assert_allclose(rdm.distances, 1 - np.corrcoef(features()), atol=1e-12)
    expected = np.linalg.svd(features() - features().mean(0), compute_uv=False)[:3] ** 2 / 29
    np.testing.assert_allclose(pca.variances, expected, rtol=1e-5)


def test_half_of_the_free_memory_is_used_and_less_if_it_is_not_enough():
    tried = []

    def compute(*, device, arithmetic, memory_bytes):
        tried.append((device, arithmetic, memory_bytes // MIB))
        if memory_bytes > 300 * MIB:
            raise OutOfDeviceMemoryError("CUDA out of memory")
        return "done"

    device = AnalysisDevice("cuda:0", RESIDUES, lambda: 2000 * MIB)
    assert device.run(compute) == "done"
    assert tried == [("cuda:0", RESIDUES, mib) for mib in (1000, 500, 250)]


def test_memory_that_is_never_enough_is_an_error_that_says_so():
    def compute(*, device, arithmetic, memory_bytes):
        raise OutOfDeviceMemoryError("CUDA out of memory")

    with pytest.raises(ExhaustedError, match=r"cuda:0.*67,108,864 bytes"):
        AnalysisDevice("cuda:0", RESIDUES, lambda: 900 * MIB).run(compute)


def test_a_cpu_has_no_limit_of_its_own():
    def compute(*, device, arithmetic, memory_bytes):
        return device, arithmetic, memory_bytes

    assert AnalysisDevice("cpu", FLOAT64).run(compute) == ("cpu", FLOAT64, None)
