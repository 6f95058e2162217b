"""Inner products by residues against exact fractions, and RDMs and PCAs made of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from thingsvision_server.rdm import computation as computation_module
from thingsvision_server.rdm import residues
from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.computation import FLOAT64, RESIDUE_VALUES, RESIDUES, Computation
from thingsvision_server.rdm.gram import gram_matrix
from thingsvision_server.rdm.metrics import METRICS, find_metric
from thingsvision_server.rdm.pca import compute_pca
from thingsvision_server.rdm.products import find_arithmetic
from thingsvision_server.rdm.residues import ERROR, KERNELS, MODULI, PRODUCT, ResidueProducts
from thingsvision_server.rdm.rows import ArrayRows

torch = pytest.importorskip("torch")

INT8, FLOAT32 = KERNELS
DEVICE = "cpu:0"  # what a GPU runs, run by torch on this machine's processor


class WholeRows(ArrayRows):
    def rows(self, start, stop):
        return self.array[start:stop]


def rows_of_all_kinds(value_count=700):
    """Rows whose products are hard: offsets, magnitudes, spikes, near duplicates, zeros."""
    random = np.random.default_rng(0)
    plain = random.standard_normal(value_count)
    spike = np.zeros(value_count)
    spike[3] = 1e9
    kinds = [
        plain,
        plain * (1 + 1e-9 * random.standard_normal(value_count)),
        -plain,
        np.maximum(plain, 0),
        np.maximum(plain, 0).astype("float32"),
        1e6 + 1e-3 * random.standard_normal(value_count),
        1e6 + 1e-3 * random.standard_normal(value_count),
        plain * 10 ** random.uniform(-8, 8, value_count),
        plain * 10 ** random.uniform(-8, 8, value_count),
        plain * 1e-60,
        plain * 1e60,
        spike,
        spike + 1e-7,
        np.ones(value_count),
        np.zeros(value_count),
        np.resize([1.0, -1.0], value_count),
        np.resize([127.5, -126.5, 0.5], value_count),
        2.0 ** np.arange(value_count).clip(max=52),
    ]
    return np.array(kinds, "float64")


def exact_products(x):
    """All inner products without rounding."""
    whole = [[Fraction(value) for value in row] for row in x.tolist()]
    return [[sum(map(lambda a, b: a * b, left, right)) for right in whole] for left in whole]


@pytest.fixture(scope="module")
def exact():
    return exact_products(rows_of_all_kinds())


@pytest.mark.parametrize("block_bytes", [1, 1 << 13, 1 << 25])  # one-row tiles; several; one
def test_products_are_within_the_proven_error(exact, block_bytes, monkeypatch):
    monkeypatch.setattr(computation_module, "LEAST_RESIDUE_VALUES", 1)
    x = rows_of_all_kinds()
    computation = Computation(DEVICE, block_bytes, arithmetic=RESIDUES)
    found, _ = gram_matrix(ArrayRows(x), find_metric("cosine"), computation)
    lengths = [float(exact[i][i]) ** 0.5 for i in range(len(x))]
    worst = 0.0
    for i, row in enumerate(found.tolist()):
        for j in range(i + 1):
            error = abs(float(Fraction(row[j]) - exact[i][j]))
            assert error <= ERROR * lengths[i] * lengths[j], (i, j)
            worst = max(worst, error / max(lengths[i] * lengths[j], 1e-300))
    assert 0 < worst < 1e-13


def test_the_error_is_the_sum_of_both_roundings():
    values, longest = RESIDUE_VALUES, residues.LONGEST
    rounding = 2 * values**0.5 / longest + (values**0.5 / longest) ** 2
    assert rounding + 2**-43 < ERROR
    assert 2 * longest**2 < PRODUCT
    assert values * 127**2 < 2**31  # sums of products of residues fit int32
    assert max(MODULI) // 2 + 1 <= 127
    assert all(np.gcd(a, b) == 1 for a in MODULI for b in MODULI if a != b)


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_kernels_are_exact_here(kernel):
    assert residues.is_exact(kernel, "cpu")


def test_kernels_that_round_or_do_not_exist_are_not_used(monkeypatch):
    def rounding(left, right):
        return (left.bfloat16() @ right.bfloat16().T).int()

    def missing(_left, _right):
        raise RuntimeError("addmm_cuda for Char is not implemented")

    assert not residues.is_exact(rounding, "cpu")
    assert not residues.is_exact(missing, "cpu")
    assert find_arithmetic(RESIDUES, DEVICE) == RESIDUES
    monkeypatch.setattr(residues, "KERNELS", (missing, rounding))
    residues.find_kernel.cache_clear()
    try:
        assert find_arithmetic(RESIDUES, DEVICE) == FLOAT64
        found = compute_rdm(ArrayRows(images()), "cosine", device=DEVICE, arithmetic=RESIDUES)
        assert found.arithmetic == FLOAT64
    finally:
        monkeypatch.undo()
        residues.find_kernel.cache_clear()


def test_bits_depend_neither_on_the_kernel_nor_on_tiles():
    block = torch.from_numpy(rows_of_all_kinds())
    found = set()
    for kernel in KERNELS:
        for block_bytes in (1, 1 << 11, 1 << 25):
            products = ResidueProducts(Computation(DEVICE, block_bytes), kernel)
            products.load(block)
            gram = torch.zeros(len(block), len(block), dtype=torch.float64)
            for rows, columns in products.tiles(0, len(block)):
                products.add(gram[rows, columns], True, rows, columns)
            found.add(gram.tril().numpy().tobytes())
    assert len(found) == 1


def images(n=60, p=1300):
    random = np.random.default_rng(0)
    shared, own = random.standard_normal(p), random.standard_normal((n, p))
    return np.maximum(shared + 0.5 * own, 0)


def close_images():
    """Images as above, with near duplicates at all distances, twins, and rows far off zero."""
    x, random = images(), np.random.default_rng(1)
    for row, relative in enumerate([1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-10]):
        x[10 + row] = x[row] * (1 + relative * random.standard_normal(x.shape[1]))
    x[20] = x[21]
    x[30:34] += 1e5
    x[33] = x[32] + 1e-6 * random.standard_normal(x.shape[1])
    x[40] = 3 * x[41]
    x[50:] *= 10.0 ** np.arange(-5, 5)[:, None]
    return x


def longdouble_rdm(x, metric):
    """From differences, whose rounding is relative to the distance."""
    x = np.asarray(x, np.longdouble)
    if metric == "correlation":
        x = x - x.mean(1, keepdims=True)
    if metric in ("correlation", "cosine"):
        x = x / np.sqrt(np.square(x).sum(1, keepdims=True))
    squared = np.array([np.square(x - row).sum(1) for row in x])
    if metric == "euclidean":
        return np.sqrt(squared)
    return -np.expm1(-squared / squared.mean()) if metric == "gaussian" else squared / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block_bytes", [1 << 13, 1 << 25])
def test_distances_are_within_a_millionth(metric, block_bytes, monkeypatch):
    monkeypatch.setattr(computation_module, "LEAST_RESIDUE_VALUES", 1)
    x = close_images()
    found = compute_rdm(
        ArrayRows(x), metric, device=DEVICE, arithmetic=RESIDUES, block_bytes=block_bytes
    )
    expected = longdouble_rdm(x, metric)
    assert found.arithmetic == RESIDUES
    assert found.distances[20, 21] == 0
    np.testing.assert_array_equal(found.distances, found.distances.T)
    apart = ~np.eye(len(x), dtype=bool)
    apart[[40, 41], [41, 40]] = metric not in ("correlation", "cosine")  # of length 3: rounding
    error = np.abs(found.distances - expected)[apart]
    assert (error <= 1e-6 * expected[apart]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_rows_without_a_distance_are_those_of_float64(metric):
    x = close_images()
    x[1], x[2], x[3, 5], x[4, 6] = 0, 7.5, np.nan, np.inf
    found = compute_rdm(ArrayRows(x), metric, device=DEVICE, arithmetic=RESIDUES)
    expected = compute_rdm(ArrayRows(x), metric)
    assert found.undefined == expected.undefined
    np.testing.assert_array_equal(np.isnan(found.distances), np.isnan(expected.distances))
    kept = np.setdiff1d(np.arange(len(x)), found.undefined)
    pairs = np.ix_(kept, kept)
    np.testing.assert_allclose(found.distances[pairs], expected.distances[pairs], atol=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
@pytest.mark.parametrize("metric", METRICS)
def test_squares_beyond_float64_are_undefined_or_finite(metric, scale):
    with np.errstate(all="ignore"):
        found = compute_rdm(
            ArrayRows(images(n=6) * scale), metric, device=DEVICE, arithmetic=RESIDUES
        )
    kept = np.setdiff1d(np.arange(6), found.undefined)
    assert np.isfinite(found.distances[np.ix_(kept, kept)]).all()


def test_where_all_rows_are_near_float64_is_used_and_told():
    x = 1e6 + images()  # of cosines, all below 1e-10
    seen = []
    found = compute_rdm(
        ArrayRows(x),
        "cosine",
        device=DEVICE,
        arithmetic=RESIDUES,
        on_block=lambda *counts: seen.append(counts),
    )
    assert found.arithmetic == FLOAT64
    expected = compute_rdm(ArrayRows(x), "cosine", device=DEVICE)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert seen[-1][0] == seen[-1][1]
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize("shape", [(60, 300), (300, 60)])  # by rows; by columns
def test_components_are_those_of_float64(shape):
    rows = WholeRows(np.random.default_rng(0).standard_normal(shape) * np.logspace(0, -3, shape[1]))
    expected = compute_pca(rows, 8)
    found = compute_pca(rows, 8, device=DEVICE, arithmetic=RESIDUES, block_bytes=1 << 12)
    assert (found.arithmetic, expected.arithmetic) == (RESIDUES, FLOAT64)
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-11)
    np.testing.assert_allclose(found.total_variance, expected.total_variance, rtol=1e-12)
    np.testing.assert_allclose(found.axes, expected.axes, rtol=0, atol=1e-6)
