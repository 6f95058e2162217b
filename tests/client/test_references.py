"""Reference RDMs as users give them, and statistics without rsatoolbox."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr

from thingsvision_client import Client, save_features
from thingsvision_client.analysis import compare_rdms
from thingsvision_client.analysis.references import as_references
from thingsvision_client.errors import (
    InvalidRequestError,
    MissingDependencyError,
    UndefinedDistanceWarning,
)
from thingsvision_client.rpc.rdms import RDMs

COUNT = 12
NAMES = [f"{letter}.png" for letter in "abcdefghijkl"]


def random_rdm(seed: int, *subjects: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((*subjects, COUNT, COUNT)), k=1)
    rdm: np.ndarray = upper + np.swapaxes(upper, -1, -2)
    return rdm


def upper(rdm: np.ndarray) -> np.ndarray:
    return rdm[np.triu_indices(COUNT, k=1)]


@pytest.fixture
def rdms(client: Client) -> RDMs:
    generator = np.random.default_rng(0)
    features = {name: generator.normal(size=(COUNT, 20)) for name in ("early", "late")}
    return client.rdm_of(features, NAMES, dtype="float64")


def test_every_way_to_give_an_rdm(tmp_path: Path) -> None:
    from rsatoolbox.rdm import RDMs as ToolboxRDMs

    rdm, subjects = random_rdm(1), random_rdm(2, 3)
    np.save(tmp_path / "brain.npy", rdm)
    np.savez(tmp_path / "two.npz", v1=rdm, subjects=subjects)
    save_features(rdm, tmp_path / "mat", "mat", names=NAMES)
    given: list[tuple[Any, dict[str, np.ndarray]]] = [
        (rdm, {"reference": rdm}),
        (rdm.tolist(), {"reference": rdm}),
        (subjects, {"reference": subjects}),
        ([rdm, subjects[0]], {"reference": np.stack([rdm, subjects[0]])}),
        ({"v1": rdm, "it": subjects}, {"v1": rdm, "it": subjects}),
        (tmp_path / "brain.npy", {"brain": rdm}),
        (str(tmp_path / "brain.npy"), {"brain": rdm}),
        ({"it": tmp_path / "brain.npy"}, {"it": rdm}),
        (tmp_path / "two.npz", {"v1": rdm, "subjects": subjects}),
        ([tmp_path / "brain.npy", tmp_path / "two.npz"],
         {"brain": rdm, "v1": rdm, "subjects": subjects}),
        (tmp_path / "mat" / "features.mat", {"features": rdm}),
        (ToolboxRDMs(subjects), {"reference": subjects}),
    ]  # fmt: skip
    for one, expected in given:
        found = {reference.name: reference.rdms for reference in as_references(one)}
        assert list(found) == list(expected)
        for name, values in expected.items():
            stack = values if values.ndim == 3 else values[None]
            np.testing.assert_array_equal(found[name], stack)


def wrong_rdms() -> list[tuple[str, Any, str]]:
    rdm = random_rdm(1)
    asymmetric, infinite = rdm.copy(), rdm.copy()
    asymmetric[2, 5] += 0.5
    infinite[4, 1] = infinite[1, 4] = np.inf
    return [
        ("no square", rdm[:5], r"must be images x images .*, got shape \(5, 12\)"),
        ("a vector", upper(rdm), "squareform makes it square"),
        ("subjects last", np.moveaxis(random_rdm(2, 3), 0, -1), "subjects must come first"),
        ("asymmetric", asymmetric, r"must be symmetric, got .* at \[2, 5\], but .* at \[5, 2\]"),
        ("infinite", infinite, r"infinite at \[1, 4\]"),
        ("similarities", 1 - rdm, "largest values on the diagonal, so it contains similarities"),
        ("too small", rdm[:2, :2], "at least 3 images"),
        ("texts", np.full((3, 3), "x"), "not an array of real numbers"),
        ("complex", rdm.astype(complex), "not an array of real numbers"),
        ("nothing", {}, "at least one reference"),
        ("no file", "nowhere.npy", "nowhere.npy"),
        ("no RDM file", "rdm.xlsx", r"ending must be one of \.npy"),
    ]


@pytest.mark.parametrize(
    ("given", "message"), [pytest.param(*case[1:], id=case[0]) for case in wrong_rdms()]
)
def test_arrays_that_are_not_rdms_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        as_references(given)


def test_the_second_subject_is_named() -> None:
    subjects = random_rdm(2, 3)
    subjects[1, 0, 7] += 1
    with pytest.raises(InvalidRequestError, match=r"at \[0, 7\] of subject 1"):
        as_references({"it": subjects})


def test_names_match_with_or_without_folder_and_ending(rdms: RDMs) -> None:
    rdm = random_rdm(1)
    expected = [one.score for one in compare_rdms(rdms, rdm, bootstrap=0).scores]
    order = np.random.default_rng(0).permutation(COUNT)
    shuffled = rdm[np.ix_(order, order)]
    for style in ("{0}", "set/{0}", "set/{1}", "{1}"):
        names = [style.format(NAMES[row], Path(NAMES[row]).stem) for row in order]
        found = compare_rdms(rdms, shuffled, reference_images=names, bootstrap=0)
        assert [one.score for one in found.scores] == pytest.approx(expected, abs=1e-14)
    with pytest.raises(InvalidRequestError, match=r"a name per image \(12\), got 3"):
        compare_rdms(rdms, shuffled, reference_images=["a", "b", "c"])
    stems = [Path(name).stem for name in NAMES[1:]]
    with pytest.raises(InvalidRequestError, match="match the image names in several ways"):
        compare_rdms(rdms, np.zeros((13, 13)), reference_images=["x/a", "y/a", *stems])


@pytest.mark.parametrize(
    ("images", "rows"),
    [
        (["cats/1.jpg", "dogs/1.jpg", "cats/2.jpg"], ["1.jpg", "2.jpg", "3.jpg"]),
        (["1.jpg", "1.png", "2.jpg"], ["1", "2", "3"]),
        (["cats/1.jpg", "cats/2.jpg", "cats/3.jpg"], ["dogs/1.jpg", "dogs/2.jpg", "dogs/3.jpg"]),
        (["cats/1.jpg", "cats/2.jpg", "cats/3.jpg"], ["1.jpg", "2.jpg", "dogs/3.jpg"]),
    ],
    ids=["same name in two folders", "two endings", "other folder", "one other folder"],
)
def test_no_image_takes_the_row_of_another(images: list[str], rows: list[str]) -> None:
    reference = as_references(random_rdm(1)[:3, :3], rows)[0]
    with pytest.raises(
        InvalidRequestError, match=r"in several ways, or name other|has no rows for"
    ):
        reference.of_images(images)


def test_outer_folders_may_be_left_out_and_an_image_may_come_twice() -> None:
    rdm = random_rdm(1)[:3, :3]
    reference = as_references(rdm, ["set/cats/1.jpg", "set/cats/2.jpg", "set/cats/3.jpg"])[0]
    for folder in ("cats/", "", "/data/set/cats/"):
        found = reference.of_images([f"{folder}{number}.jpg" for number in (3, 1, 3)])
        np.testing.assert_array_equal(found.rdms[0], rdm[np.ix_([2, 0, 2], [2, 0, 2])])


def test_objects_of_ours_bring_their_names(rdms: RDMs) -> None:
    from thingsvision_client.analysis.objects import to_rdms

    brain = to_rdms(rdms)
    backwards = brain.subset_pattern("index", list(range(COUNT)))
    backwards.reorder(np.arange(COUNT)[::-1])
    assert backwards.pattern_descriptors["image"][0] == NAMES[-1]
    with pytest.warns(UserWarning, match="'itself' has its rows in another order: .* 'image'"):
        found = compare_rdms(rdms, {"itself": backwards}, correlation="pearson", bootstrap=0)
    assert found.of("itself", "early").by_subject[0] == pytest.approx(1)
    assert found.of("itself", "late").by_subject[1] == pytest.approx(1)


def test_values_that_only_some_subjects_lack_are_left_out_of_all(rdms: RDMs) -> None:
    subjects = random_rdm(2, 3)
    subjects[1, 0, 3] = subjects[1, 3, 0] = np.nan
    with pytest.warns(UndefinedDistanceWarning, match="1 of 66 pairs"):
        found = compare_rdms(rdms, subjects, correlation="pearson", bootstrap=0)
    kept = np.isfinite(upper(subjects[1]))
    expected = [
        pearsonr(upper(rdms.rdms["late"])[kept], upper(one)[kept]).statistic for one in subjects
    ]
    np.testing.assert_allclose(found.of("reference", "late").by_subject, expected, atol=1e-12)
    assert found.scores[0].pair_count == 65


def test_modules_without_variance_score_nan(client: Client) -> None:
    generator = np.random.default_rng(0)
    features = {"dead": np.zeros((COUNT, 5)), "alive": generator.normal(size=(COUNT, 5))}
    features["half"] = features["alive"].copy()
    features["half"][5] = 0
    with pytest.warns(UndefinedDistanceWarning):
        rdms = client.rdm_of(features, NAMES, dtype="float64")
    with pytest.warns(UndefinedDistanceWarning, match=r"1 of 3 scores are .* of 'dead' with"):
        found = compare_rdms(rdms, random_rdm(1), bootstrap=60)
    dead, alive, half = found.scores
    assert np.isnan(dead.score)
    assert (dead.low, dead.pair_count) == (None, 0)
    assert alive.pair_count == 66
    assert half.pair_count == 66 - 11
    assert half.low is not None
    assert '"score": null' in found.to_json()


def test_other_correlations_are_rsatoolboxs(rdms: RDMs) -> None:
    rdm = random_rdm(1)
    found = compare_rdms(rdms, rdm, correlation="kendall", bootstrap=0)
    expected = kendalltau(upper(rdms.rdms["late"]), upper(rdm)).statistic
    assert found.of("reference", "late").score == pytest.approx(expected, abs=1e-12)
    cosine = compare_rdms(rdms, rdm, correlation="cosine", bootstrap=50)
    a, b = upper(rdms.rdms["early"]), upper(rdm)
    assert cosine.scores[0].score == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)))
    assert cosine.scores[0].low is not None


def test_too_few_samples_or_images_are_refused(rdms: RDMs) -> None:
    rdm = random_rdm(1)
    with pytest.raises(
        InvalidRequestError, match=r"`bootstrap` must be at least 40 .* 95%, got 39"
    ):
        compare_rdms(rdms, rdm, bootstrap=39)
    with pytest.raises(InvalidRequestError, match="must be at least 200"):
        compare_rdms(rdms, rdm, bootstrap=100, confidence=0.99)
    assert np.isfinite(compare_rdms(rdms, rdm, bootstrap=40).scores[0].low)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=r"`confidence` must be between 0 and 1, got 95"):
        compare_rdms(rdms, rdm, confidence=95)


def test_scores_need_no_rsatoolbox(rdms: RDMs, monkeypatch: pytest.MonkeyPatch) -> None:
    rdm = random_rdm(1)
    for name in [one for one in sys.modules if one.split(".")[0] in ("rsatoolbox", "pandas")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = compare_rdms(rdms, rdm, correlation="pearson", bootstrap=0)
    expected = pearsonr(upper(rdms.rdms["late"]), upper(rdm)).statistic
    assert found.of("reference", "late").score == pytest.approx(expected, abs=1e-14)
    several = compare_rdms(rdms, random_rdm(2, 3), bootstrap=0, noise_ceiling=False)
    assert len(several.scores[0].by_subject) == 3
    extra = r"pip install 'thingsvision-service\[rsa\]'"
    with pytest.raises(MissingDependencyError, match=rf"bootstrap=0.*{extra}"):
        compare_rdms(rdms, rdm)
    with pytest.raises(MissingDependencyError, match=rf"'tau-a' needs rsatoolbox: {extra}"):
        compare_rdms(rdms, rdm, correlation="tau-a", bootstrap=0)
    with pytest.raises(MissingDependencyError, match=rf"noise_ceiling=False.*{extra}"):
        compare_rdms(rdms, random_rdm(2, 3), bootstrap=0)
    with pytest.raises(MissingDependencyError, match=r"thingsvision-service\[pandas\]"):
        found.to_dataframe()


def test_a_reference_without_variance_is_told() -> None:
    constant = 1 - np.eye(COUNT)
    with pytest.warns(UndefinedDistanceWarning, match="the same distance for all pairs"):
        found = compare_rdms({"a": random_rdm(1)}, constant, bootstrap=0)
    assert np.isnan(found.scores[0].score)
