import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from thingsvision_client import compute_rdm, correlate_rdms, plot_rdm
from thingsvision_client.core.metrics import METRICS
from thingsvision_client.errors import InvalidRequestError, UndefinedDistanceWarning

X = np.random.default_rng(0).normal(size=(12, 300)) + 5.0


def by_scipy(x: np.ndarray, method: str) -> np.ndarray:
    if method != "gaussian":
        return squareform(pdist(x, method))
    squared = squareform(pdist(x, "sqeuclidean"))
    return 1 - np.exp(-squared / squared.mean())


@pytest.mark.parametrize("method", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rdm_is_scipys(method: str, dtype: str) -> None:
    x = X.astype(dtype)
    rdm = compute_rdm(x, method)
    np.testing.assert_allclose(rdm, by_scipy(x.astype("float64"), method), rtol=1e-10, atol=1e-13)
    assert rdm.dtype == np.float64
    assert (rdm == rdm.T).all()
    assert (np.diag(rdm) == 0).all()
    assert (rdm >= 0).all()


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 0.0])
def test_near_duplicates_keep_their_distance(distance: float) -> None:
    x = X + 1e3
    x[3] = x[7]
    x[3, 0] += distance
    for method in ("euclidean", "gaussian"):
        np.testing.assert_allclose(
            compute_rdm(x, method), by_scipy(x, method), rtol=1e-7, atol=1e-16
        )


@pytest.mark.parametrize(
    ("method", "values", "undefined"),
    [
        ("correlation", [0.1, 0.0, np.nan, np.inf], [2, 3, 4, 5]),
        ("cosine", [0.1, 0.0, np.nan, np.inf], [3, 4, 5]),
        ("euclidean", [0.1, 0.0, np.nan, np.inf], [4, 5]),
        ("gaussian", [0.1, 0.0, np.nan, np.inf], [4, 5]),
    ],
)
def test_rows_without_distance(method: str, values: list[float], undefined: list[int]) -> None:
    x = X.copy()
    x[2:6] = np.array(values)[:, None]
    with pytest.warns(UndefinedDistanceWarning, match=str(undefined).replace("[", r"\[")):
        rdm = compute_rdm(x, method)
    assert np.isnan(rdm[undefined]).all()
    assert np.isnan(rdm[:, undefined]).all()
    rest = np.setdiff1d(np.arange(len(x)), undefined)
    np.testing.assert_allclose(
        rdm[np.ix_(rest, rest)], by_scipy(x[rest], method), rtol=1e-10, atol=1e-13
    )


def test_all_rows_equal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (compute_rdm(np.ones((4, 3)), "gaussian") == 0).all()
        assert (compute_rdm(np.ones((4, 3)), "euclidean") == 0).all()


def test_huge_and_tiny_values() -> None:
    x = X.copy()
    x[0] *= 1e200
    x[1] *= 1e-200
    np.testing.assert_allclose(compute_rdm(x, "cosine"), compute_rdm(X, "cosine"), atol=1e-13)


def test_arrays_that_are_not_matrices_are_refused() -> None:
    for shape in [(4,), (4, 3, 2), (0, 3), (3, 0)]:
        with pytest.raises(InvalidRequestError, match="images x units"):
            compute_rdm(np.ones(shape))
    with pytest.raises(InvalidRequestError, match="correlation, cosine, euclidean, gaussian"):
        compute_rdm(X, "manhattan")


def test_correlations_of_rdms_are_scipys() -> None:
    first, second = compute_rdm(X), compute_rdm(X[:, :20], "euclidean")
    upper = np.triu_indices(len(X), k=1)
    for name, reference in [("pearson", pearsonr), ("spearman", spearmanr)]:
        expected = reference(first[upper], second[upper]).statistic
        assert correlate_rdms(first, second, name) == pytest.approx(expected, abs=1e-14)
    assert correlate_rdms(first, first) == pytest.approx(1.0, abs=1e-15)


def test_correlations_that_make_no_sense() -> None:
    rdm = compute_rdm(X)
    for other in (rdm[:5, :5], rdm[:5], rdm[:2, :2]):
        with pytest.raises(InvalidRequestError):
            correlate_rdms(rdm, other)
    with pytest.raises(InvalidRequestError, match="pearson, spearman"):
        correlate_rdms(rdm, rdm, "kendall")
    broken = rdm.copy()
    broken[0, 1] = broken[1, 0] = np.nan
    assert np.isnan(correlate_rdms(rdm, broken))
    assert np.isnan(correlate_rdms(rdm, broken, "spearman"))


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_rdm(tmp_path, X)
    header = (tmp_path / "rdm.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(header[i : i + 4], "big") for i in (16, 20)] == [2000, 800]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rdm.png", "rdm.png.json"]


def test_title_and_colour_bar_are_drawn_on_request(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")

    def draw(name: str, **options: Any) -> Any:
        plot_rdm(tmp_path / name, X, **options)
        return image.imread(tmp_path / name / "rdm.png")

    plain, titled, barred = draw("a"), draw("b", title="AlexNet"), draw("c", color_bar=True)
    assert plain.shape == titled.shape == (800, 2000, 4), "the library's size"
    assert (plain != titled).any()
    assert barred.shape == (800, 1000, 4)
    plot_rdm(tmp_path, X, "correlation", ".svg", title="AlexNet", color_bar=True)
    figure = (tmp_path / "rdm.svg").read_text()
    for text in ("AlexNet", "dissimilarity (rank)", "lowest", "highest"):
        assert f"<!-- {text} -->" in figure
