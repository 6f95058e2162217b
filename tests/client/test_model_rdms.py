"""RDMs and features that users hold: compared by the names that they carry or know."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from thingsvision_client import compute_rdm, correlate_rdms, get_cka, save_features
from thingsvision_client.analysis import compare_rdms
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.labels import names_in, remember_rows

COUNT = 8
NAMES = [f"{number}.png" for number in range(1, COUNT + 1)]
ORDER = [3, 1, 0, 2, 7, 6, 5, 4]
FEATURES = np.random.default_rng(0).normal(size=(COUNT, 20))
OTHER = FEATURES + np.random.default_rng(1).normal(size=(COUNT, 20))
UPPER = np.triu_indices(COUNT, k=1)


def plain(features: np.ndarray) -> np.ndarray:
    return 1 - np.corrcoef(features)


EXPECTED = spearmanr(plain(FEATURES)[UPPER], plain(OTHER)[UPPER]).statistic


def frame(rdm: np.ndarray, order: list[int]) -> pd.DataFrame:
    names = [NAMES[row] for row in order]
    return pd.DataFrame(rdm[np.ix_(order, order)], index=names, columns=names)


def known(features: np.ndarray, order: Any) -> np.ndarray:
    """Return rows in an order, with known names, as features from a server have."""
    rows = features[order].copy()
    remember_rows(rows, [NAMES[row] for row in order])
    return rows


def score(rdms: Any, reference: Any) -> float:
    found = compare_rdms(rdms, {"brain": reference}, bootstrap=0)
    return found.scores[0].score


def test_matrices_are_compared_as_they_are(tmp_path: Path) -> None:
    ours = compute_rdm(FEATURES, "correlation")
    np.save(tmp_path / "rdm.npy", ours)
    for given in (ours, {"conv1": ours}, tmp_path / "rdm.npy", pd.DataFrame(ours), ours.tolist()):
        assert score(given, plain(OTHER)) == pytest.approx(EXPECTED)
    found = compare_rdms({"a": ours, "b": plain(OTHER)}, plain(OTHER), bootstrap=0)
    assert found.of("reference", "a").score == pytest.approx(EXPECTED)
    assert found.of("reference", "b").score == pytest.approx(1)
    assert found.to_dataframe().shape[0] == 2


def test_names_that_the_features_had_put_rows_in_order() -> None:
    ours = compute_rdm(known(FEATURES, ORDER), "correlation")
    assert names_in(ours) == tuple(NAMES[row] for row in ORDER)
    with pytest.warns(UserWarning, match="in another order"):
        assert score({"conv1": ours}, frame(plain(OTHER), list(range(COUNT)))) == pytest.approx(
            EXPECTED
        )
    some = [4, 1, 6, 2]
    part = compute_rdm(known(FEATURES, some), "correlation")
    pairs = np.triu_indices(4, k=1)
    expected = spearmanr(plain(FEATURES[some])[pairs], plain(OTHER[some])[pairs]).statistic
    with pytest.warns(UserWarning, match="rows of other images are left out"):
        assert score(part, frame(plain(OTHER), ORDER)) == pytest.approx(expected)


def test_models_in_different_orders_are_matched_by_name() -> None:
    both = {"a": frame(plain(FEATURES), ORDER), "b": frame(plain(FEATURES), list(range(COUNT)))}
    with pytest.warns(UserWarning, match=r"RDM 'b' has its rows in another order"):
        found = compare_rdms(both, frame(plain(OTHER), ORDER), bootstrap=0)
    assert [one.score for one in found.scores] == pytest.approx([EXPECTED, EXPECTED])


def test_rdms_without_names_have_the_rows_of_the_references() -> None:
    ours = plain(FEATURES)[np.ix_(ORDER, ORDER)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(ours, frame(plain(OTHER), ORDER)) == pytest.approx(EXPECTED)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (squareform(plain(FEATURES), checks=False), "squareform makes it square"),
        ({"conv1": np.stack([plain(FEATURES)] * 2)}, r"RDM 'conv1' must be images x images"),
        ({"a": plain(FEATURES), "b": plain(FEATURES[:5])}, "same images: 'a' has 8, 'b' has 5"),
        ({"conv1": 1 - plain(FEATURES)}, "contains similarities"),
        ({"conv1": FEATURES}, r"got shape \(8, 20\)"),
        ({}, "at least one"),
        ({"conv1": "text" * 3}, "text"),
    ],
)
def test_what_is_no_rdm_is_refused(given: Any, words: str) -> None:
    with pytest.raises((InvalidRequestError, FileNotFoundError), match=words):
        compare_rdms(given, plain(OTHER), bootstrap=0)


def test_rows_known_to_be_in_different_orders_are_warned_of() -> None:
    cka = get_cka("numpy", m=COUNT)
    as_they_stand = cka.compare(FEATURES, OTHER[ORDER])
    first, second = known(FEATURES, range(COUNT)), known(OTHER, ORDER)
    with pytest.warns(UserWarning, match=r"same images in different orders.*'1.png'.*'4.png'"):
        found = cka.compare(first, second)
    assert found == pytest.approx(as_they_stand)
    with pytest.warns(UserWarning, match="same images in different orders"):
        correlate_rdms(compute_rdm(first, "cosine"), compute_rdm(second, "cosine"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cka.compare(first, known(OTHER, range(COUNT)))
        cka.compare(first, OTHER[ORDER] * 2)


def test_a_wrong_m_says_how_many_images_there_are() -> None:
    with pytest.raises(InvalidRequestError, match=r"get_cka\(\.\.\., m=8\)"):
        get_cka("numpy", m=7).compare(FEATURES, OTHER)
    with pytest.raises(InvalidRequestError, match="flatten it"):
        get_cka("numpy", m=COUNT).compare(FEATURES, OTHER.reshape(COUNT, 4, 5))


@pytest.mark.parametrize("ending", [".npy", "h5", ".hdf5"])
def test_formats_can_be_written_as_endings(ending: str, tmp_path: Path) -> None:
    rows = known(FEATURES, ORDER)
    save_features(rows, tmp_path, ending)
    assert [path.suffix for path in tmp_path.glob("features.*[!n]")] == [
        {"h5": ".h5"}.get(ending, ending)
    ]
