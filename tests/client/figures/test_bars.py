"""Bars of scores: what is drawn where, and that no letters overlap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.drawn_figures import COUNT, LONG, assert_nothing_overlaps, names, random_rdm
from thingsvision_client import Client, read_origin
from thingsvision_client.analysis import RSAResult, compare_rdms
from thingsvision_client.analysis.bars import plot_scores
from thingsvision_client.core import rsa as core_rsa
from thingsvision_client.errors import InvalidRequestError, MissingDependencyError
from thingsvision_client.figures.lettering import shorten, width_of, wrap_text
from thingsvision_client.figures.rdm_grid import plot_rdms
from thingsvision_client.rpc.rdms import RDMs


@pytest.fixture
def result(client: Client) -> RSAResult:
    generator = np.random.default_rng(0)
    features = {f"layer{n}.conv": generator.normal(size=(COUNT, 30)) for n in range(4)}
    rdms: RDMs = client.rdm_of(features, names(), dtype="float64")
    like_last = rdms.rdms["layer3.conv"] + 0.1 * random_rdm(5)
    subjects = np.stack([like_last + 0.2 * random_rdm(seed) for seed in range(3)])
    return compare_rdms(rdms, {"one": random_rdm(1), LONG: subjects}, bootstrap=50)


def test_bars_are_the_scores(result: RSAResult, tmp_path: Path, drawn: list[Any]) -> None:
    result.plot(tmp_path / "rsa.png")
    (figure,) = drawn
    one, subjects = figure.axes
    for axes, reference in ((one, "one"), (subjects, LONG)):
        scores = [score for score in result.scores if score.reference == reference]
        bars_drawn = [patch for patch in axes.patches if patch.get_width() < 1 - 1e-9]
        assert [bar.get_height() for bar in bars_drawn] == [score.score for score in scores]
        intervals = [line.get_segments()[0][:, 1].tolist() for line in axes.collections]
        assert intervals == [[score.low, score.high] for score in scores]
    (band,) = [patch for patch in subjects.patches if patch not in bars_drawn]
    first = result.of(LONG, "layer0.conv")
    assert band.get_y() == pytest.approx(first.ceiling_low)
    assert band.get_y() + band.get_height() == pytest.approx(first.ceiling_high)
    assert result.of(LONG, "layer3.conv").score > 0.5
    assert one.get_ylabel() == "Spearman's ρ"
    named = [text.get_text() for text in one.get_xticklabels()]
    assert named == result.modules
    assert one.get_ylim() == subjects.get_ylim()
    assert_nothing_overlaps(figure)


def test_the_scores_lie_beside_the_figure(result: RSAResult, tmp_path: Path) -> None:
    for path, plot in (
        (tmp_path / "a.svg", result.plot),
        (tmp_path / "b.svg", lambda path: plot_scores(path, result.scores, "pearson")),
    ):
        for _ in range(2):  # the same again
            plot(path)
        told = read_origin(path)
        drawn = told["inputs"]["layer3.conv with one"]["score"]
        assert drawn == result.of("one", "layer3.conv").score
        with pytest.raises(InvalidRequestError, match="a figure of layer0"):
            plot_scores(path, result.scores[:1], "pearson")
        plot_scores(path, result.scores[:1], "pearson", overwrite=True)
        assert list(read_origin(path)["inputs"]) == ["layer0.conv with one"]
    result.plot(tmp_path / "c.svg")
    told = read_origin(tmp_path / "c.svg")
    assert told["images"] == names()
    assert told["bootstrap"]["samples"] == 50


def test_bars_of_many_modules_and_references_stay_readable(
    client: Client, tmp_path: Path, drawn: list[Any]
) -> None:
    generator = np.random.default_rng(0)
    features = {f"{LONG}.{n}": generator.normal(size=(COUNT, 8)) for n in range(45)}
    rdms = client.rdm_of(features, names())
    references = {f"area {number}": random_rdm(number) for number in range(2)}
    compare_rdms(rdms, references, bootstrap=0).plot(tmp_path / "rsa.pdf")
    assert_nothing_overlaps(drawn[0])
    assert drawn[0].get_size_inches()[0] == pytest.approx(7.2, abs=0.01)
    few = compare_rdms(client.rdm_of({"a": features[f"{LONG}.0"]}), references, bootstrap=0)
    few.plot(tmp_path / "few.svg", width_inches=3.5)
    assert_nothing_overlaps(drawn[1])
    assert drawn[1].get_size_inches()[0] <= 3.5


def test_results_are_saved_together(result: RSAResult, tmp_path: Path) -> None:
    result.save(tmp_path, figure="pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rsa.csv", "rsa.json", "rsa.pdf"]
    assert (tmp_path / "rsa.csv").read_text() == result.to_csv()


def test_letters_are_measured_and_shortened() -> None:
    assert width_of("mmmm", 7) > width_of("iiii", 7) > 0
    assert width_of("ab\nmmmm", 7) == width_of("mmmm", 7)
    assert width_of("m", 14) == pytest.approx(2 * width_of("m", 7), rel=0.05)
    short = shorten(LONG, 8, 1.5)
    assert width_of(short, 8) <= 1.5
    assert short.startswith("torch")
    assert short.endswith("layer4.2.relu")
    assert shorten("fits", 8, 1.5) == "fits"
    assert wrap_text("artificial object", 14) == "artificial\nobject"


def test_matplotlib_is_asked_for_where_used(
    result: RSAResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "figure.png"
    for call in (
        lambda: plot_rdms(path, {"a": random_rdm(1)}),
        lambda: result.plot(path),
        lambda: core_rsa.plot_rdm(tmp_path, np.eye(4)),
    ):
        with pytest.raises(MissingDependencyError, match=r"'thingsvision-service\[plot\]'"):
            call()
