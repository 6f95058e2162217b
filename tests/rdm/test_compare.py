"""RDMs against scipy in float64, or against longer arithmetic if scipy is not exact enough."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from thingsvision_server.errors import InvalidRequestError
from thingsvision_server.rdm import neighbours
from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.computation import Computation
from thingsvision_server.rdm.gram import gram_matrix
from thingsvision_server.rdm.metrics import METRICS, find_metric, table
from thingsvision_server.rdm.rows import ArrayRows

DISTANCES = ["euclidean", "gaussian"]


def features(n=60, p=1300, seed=0):
    """Like activations after a ReLU: half zeros, images that differ little from their mean."""
    random = np.random.default_rng(seed)
    return np.maximum(random.standard_normal(p) + 0.5 * random.standard_normal((n, p)), 0).astype(
        "float32"
    )


def rdm(x, metric, **options):
    return compute_rdm(ArrayRows(x), metric, **options)


def reference(x, metric):
    x = np.asarray(x, "float64")
    if metric != "gaussian":
        return cdist(x, x, metric)
    squared = cdist(x, x, "sqeuclidean")
    return 1 - np.exp(-squared / squared.mean())


def longdouble_distances(x):
    x = np.asarray(x, np.longdouble)
    return np.array([np.sqrt(np.square(x - row).sum(1)) for row in x])


def longdouble_correlation(x):
    exact = x.astype(np.longdouble)
    exact -= exact.mean(1, keepdims=True)
    exact /= np.sqrt(np.square(exact).sum(1, keepdims=True))
    return 1 - exact @ exact.T


def assert_relative(found, expected, tolerance):
    off = ~np.eye(len(found), dtype=bool)
    assert np.all(np.abs(found - expected)[off] <= tolerance * expected[off])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 25])  # many blocks and one-row tiles; one
def test_equals_scipy(metric, dtype, block_bytes):
    x = features().astype(dtype)
    found = rdm(x, metric, block_bytes=block_bytes)
    assert_relative(found.distances, reference(x, metric), 1e-12)
    assert found.undefined == []
    assert found.distances.dtype == np.float64
    np.testing.assert_array_equal(found.distances, found.distances.T)
    np.testing.assert_array_equal(found.distances.diagonal(), 0)


@pytest.mark.parametrize("metric", METRICS)
def test_many_rows_are_mirrored_across_strips(metric):
    x = features(n=900, p=40)
    found = rdm(x, metric, block_bytes=1 << 20).distances
    assert_relative(found, reference(x, metric), 1e-10)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("metric", METRICS)
def test_one_image(metric):
    assert rdm(features(n=1), metric).distances.tolist() == [[0.0]]


def test_correlation_survives_an_unrepresentative_first_block():
    x = features().astype("float64") + 1e6
    x[:, :512] = 0  # dead channels first: the first block's mean is far off
    found = rdm(x, "correlation", block_bytes=1).distances
    np.testing.assert_allclose(found, longdouble_correlation(x), rtol=0, atol=5e-15)


def test_correlation_of_rows_with_a_large_mean():
    x = np.random.default_rng(0).standard_normal((30, 2000)) * 1e-3 + 1e6
    found = rdm(x, "correlation", block_bytes=1).distances
    assert_relative(found, longdouble_correlation(x), 1e-12)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_similarity_is_clipped(metric):
    row = features(n=1)
    found = rdm(np.vstack([row, row * 3, -row, row]), metric).distances
    assert found.min() >= 0
    assert found.max() <= 2
    np.testing.assert_allclose(found[0], [0, 0, 2, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("metric", "value", "undefined"),
    [
        ("correlation", 0.1, True),
        ("correlation", 0.0, True),
        ("cosine", 0.0, True),
        ("cosine", 0.1, False),
        ("euclidean", 0.0, False),
        ("gaussian", 0.0, False),
        ("correlation", np.nan, True),
        ("cosine", np.inf, True),
        ("euclidean", np.nan, True),
        ("gaussian", -np.inf, True),
    ],
)
def test_constant_and_non_finite_rows(metric, value, undefined):
    x = features(n=8)
    x[[2, 7], :] = value
    if not np.isfinite(value):  # a single value is enough, in whichever block
        x[[2, 7], :-1] = features(n=2)[:, :-1]
    found = rdm(x, metric, block_bytes=1)
    assert found.undefined == ([2, 7] if undefined else [])
    lost = np.isin(np.arange(8), found.undefined)
    np.testing.assert_array_equal(np.isnan(found.distances), lost[:, None] | lost)
    if undefined:
        rest = found.distances[np.ix_(~lost, ~lost)]
        np.testing.assert_allclose(rest, reference(x[~lost], metric), rtol=1e-12, atol=1e-15)


def test_all_rows_undefined():
    found = rdm(np.ones((3, 5), "float32"), "correlation")
    assert found.undefined == [0, 1, 2]
    assert np.isnan(found.distances).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_squares_beyond_float64_are_exact_or_undefined(metric, scale):
    x = features(n=5).astype("float64") * scale
    with np.errstate(all="ignore"):
        found = rdm(x, metric)
    if found.undefined:
        assert np.isnan(found.distances).all()
    else:
        assert np.isfinite(found.distances).all()


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_identical_images(metric, dtype):
    x = np.repeat(features(n=1).astype(dtype) / 3, 7, axis=0)
    assert not rdm(x, metric).distances.any()


@pytest.mark.parametrize("relative", [1e-2, 1e-3, 1e-5, 1e-7, 1e-12])
@pytest.mark.parametrize("pairs_per_pass", [1, 1 << 20])
def test_near_duplicates(relative, pairs_per_pass, monkeypatch):
    monkeypatch.setattr(neighbours, "PAIRS_PER_PASS", pairs_per_pass)
    x = features(n=30).astype("float64")
    noise = np.random.default_rng(1).standard_normal((20, x.shape[1]))
    x[10:] = np.repeat(x[:2], 10, axis=0) + relative * noise  # two clusters
    x[[13, 29]] = x[12]  # and twins in one of them
    x[5] = x[4]
    found = rdm(x, "euclidean").distances
    assert_relative(found, longdouble_distances(x), 1e-9)
    assert found[12, 13] == found[13, 29] == found[4, 5] == 0
    np.testing.assert_array_equal(found, found.T)
    assert_relative(rdm(x, "gaussian").distances, gaussian(longdouble_distances(x)), 1e-9)


def test_many_twins_need_few_comparisons(monkeypatch):
    monkeypatch.setattr(neighbours, "PAIRS_PER_PASS", 1)
    x = features(n=100).astype("float64")
    x[50:] = x[50]
    x[0] = x[50] * (1 + 1e-5)  # the 50 are near to this one, but not its twins
    seen = []
    found = rdm(x, "euclidean", on_block=lambda done, total: seen.append(total)).distances
    assert seen[-1] == 3  # the Gram matrix, the closest partners, one pair
    assert_relative(found, longdouble_distances(x), 1e-9)
    np.testing.assert_array_equal(found[50], found[99])


def gaussian(distances):
    squared = distances**2
    return -np.expm1(-squared / squared.mean())


@pytest.mark.parametrize("metric", DISTANCES)
def test_near_duplicates_beside_a_far_longer_row_and_lost_ones(metric):
    """One look can't clear rows beside a row that is 10,000 times as long; a NaN hides none."""
    x = features(n=40).astype("float64")
    x[7] *= 1e4
    x[20] = x[3] * (1 + 1e-9)
    x[39] = x[38]
    x[[0, 30], 5] = np.nan
    found = rdm(x, metric)
    assert found.undefined == [0, 30]
    kept = np.setdiff1d(np.arange(40), found.undefined)
    expected = longdouble_distances(x[kept])
    expected = gaussian(expected) if metric == "gaussian" else expected
    assert_relative(found.distances[np.ix_(kept, kept)], expected, 1e-9)
    assert found.distances[38, 39] == 0


def test_only_near_rows_are_read_again():
    class Watched(ArrayRows):
        def values_of(self, indices, start, stop):
            read.extend(indices.tolist())
            return super().values_of(indices, start, stop)

    read = []
    x = features()
    compute_rdm(Watched(x), "euclidean")
    assert read == []
    x[40] = x[4] * np.float32(1 + 1e-5)
    compute_rdm(Watched(x), "euclidean")
    assert set(read) == {4, 40}


def test_a_large_common_offset_needs_no_second_pass():
    x = features().astype("float64") + 1e5
    seen = []
    found = rdm(x, "euclidean", on_block=lambda done, total: seen.append(total))
    assert_relative(found.distances, longdouble_distances(x), 1e-9)
    assert set(seen) == {1}


def test_input_is_left_alone_and_may_be_read_only():
    x = features()
    kept = x.copy()
    x.flags.writeable = False
    for metric in METRICS:
        rdm(x, metric)
    np.testing.assert_array_equal(x, kept)


def test_progress_counts_blocks():
    seen = []
    rdm(features(), "cosine", block_bytes=1, on_block=lambda *counts: seen.append(counts))
    assert list(dict.fromkeys(seen)) == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_on_block_cancels():
    class CancelledError(Exception):
        pass

    def cancel(done, total):
        raise CancelledError

    with pytest.raises(CancelledError):
        rdm(features(), "cosine", block_bytes=1, on_block=cancel)


def test_wrong_requests_say_what_is_right():
    with pytest.raises(InvalidRequestError, match="'cosine'") as caught:
        rdm(features(), "cosin")
    assert (caught.value.field, caught.value.subject) == ("metric", "cosin")
    with pytest.raises(InvalidRequestError, match="0 x 5"):
        rdm(np.empty((0, 5), "float32"), "cosine")


def test_duplicate_metrics_are_refused():
    row = find_metric("cosine")
    with pytest.raises(ValueError, match="same name"):
        table(row, row)


def test_gram_matrix_of_blocks_is_the_product():
    x = features().astype("float64")
    for block_bytes in (1, 1 << 25):
        gram, stats = gram_matrix(ArrayRows(x), METRICS["cosine"], Computation("cpu", block_bytes))
        np.testing.assert_allclose(np.tril(gram.numpy()), np.tril(x @ x.T), rtol=1e-13)
        np.testing.assert_allclose(stats.sums.numpy(), x.sum(1), rtol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_accelerator_equals_cpu(metric):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = features(n=700)
    x[3] = x[600]
    found = rdm(x, metric, device="cuda", block_bytes=1 << 20).distances
    np.testing.assert_allclose(found, rdm(x, metric).distances, rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("metric", METRICS)
def test_device_path_equals_cpu(metric):
    """What an accelerator runs, run by torch on this machine's processor."""
    x = features(n=300)
    x[3] = x[200]
    found = rdm(x, metric, device="cpu:0", block_bytes=1 << 18).distances
    np.testing.assert_allclose(found, rdm(x, metric).distances, rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(found, found.T)


def shared_data():
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("THINGSVISION_SHARED_DATA", beside))


def test_pixels_of_real_images_equal_scipy():
    files = sorted((shared_data() / "rsa92" / "stimuli").glob("*.png"))
    if not files:
        pytest.skip("the 92 images of rsa92 are not here (THINGSVISION_SHARED_DATA)")
    image = pytest.importorskip("PIL.Image")
    x = np.stack([np.asarray(image.open(f).convert("L"), "float32").ravel() for f in files])
    for metric in METRICS:
        assert_relative(rdm(x, metric).distances, reference(x, metric), 1e-12)
