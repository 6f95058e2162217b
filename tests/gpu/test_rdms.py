"""RDMs on the device: both arithmetics, the whole matrix and bands of it."""

from __future__ import annotations

import numpy as np
import pytest

from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.computation import FLOAT64, RESIDUES
from thingsvision_server.rdm.residues import find_kernel
from thingsvision_server.rdm.rows import ArrayRows

pytestmark = pytest.mark.gpu

BAND_BYTES = 600_000
"""Too little for a matrix of 300 x 300."""


@pytest.fixture(scope="module")
def rows() -> ArrayRows:
    """Features with twins and near duplicates."""
    random = np.random.default_rng(0)
    x = np.maximum(random.standard_normal(80) + random.standard_normal((300, 80)), 0)
    x[5] = x[4]
    x[7] = x[6] * (1 + 1e-7 * random.standard_normal(80))
    return ArrayRows(x)


def test_products_of_residues_are_exact(device: str) -> None:
    assert find_kernel(device) is not None


@pytest.mark.parametrize("memory_bytes", [None, BAND_BYTES])
@pytest.mark.parametrize("arithmetic", [FLOAT64, RESIDUES])
@pytest.mark.parametrize("metric", ["correlation", "gaussian"])
def test_distances_are_the_cpus(
    rows: ArrayRows, device: str, metric: str, arithmetic: str, memory_bytes: int | None
) -> None:
    place = "cpu:0" if device == "cpu" else device  # the road of a GPU
    found = compute_rdm(
        rows, metric, device=place, arithmetic=arithmetic, memory_bytes=memory_bytes
    )
    expected = compute_rdm(rows, metric).distances
    assert found.arithmetic == arithmetic
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6, atol=1e-14)
    np.testing.assert_array_equal(found.distances, found.distances.T)
