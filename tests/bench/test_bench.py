"""The bench itself: one small row from end to end, and the arithmetic that its figures rest on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench.goals import ErrorCeiling, Goal, outcomes
from bench.interleave import Patience, interleave
from bench.measures.options import OPTIONS
from bench.measures.rdms import EXACT
from bench.near_duplicates import NEAR_DUPLICATES, features, largest_error
from bench.rdm.formula import METRICS
from bench.row import Cell, Row
from bench.rows import select_rows
from bench.worker import KEPT_ROWS

from support.checkout import CHECKOUT

ROW, OPTIONS_ROW = "squeezenet1_0-features.12", "options-alexnet-features.10"
COLUMNS = ["limit", "local", "service", "bare", "peer"]


def test_two_rows_from_end_to_end(tmp_path: Path, photos: list[Path]) -> None:
    rows = ["--rows", ROW, OPTIONS_ROW]
    command = [sys.executable, "-m", "bench", *rows, "--images=3", "--rounds=2"]
    folders = ["--photos", str(photos[0].parent), "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *folders, "--no-peer", "--device=cpu"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    row, options = found["rows"]
    cells = row["cells"]
    assert list(cells) == COLUMNS, done.stdout
    for name in COLUMNS[:-1]:
        assert len(cells[name]["values"]) == 2, cells[name]["missing"]
        assert min(cells[name]["values"]) > 0
        assert cells[name]["difference"] < 1e-4
    assert cells["service"]["difference"] == 0
    assert "--peer" in cells["peer"]["missing"]
    errors = {name: cell["difference"] for name, cell in options["cells"].items()}
    assert list(errors) == list(OPTIONS)
    assert errors["service"] == 0 <= errors["channels_last"] < 1e-5 < errors["both"] < 0.05
    assert all(min(cell["values"]) > 0 for cell in options["cells"].values())
    assert found["machine"]["versions"]["torch"]
    page = (tmp_path / "bench.md").read_text()
    assert ROW in page
    assert found["machine"]["cpu"] in page
    assert (tmp_path / "throughput.svg").read_text().startswith("<?xml")
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_arms_take_turns_and_a_slow_one_is_not_repeated() -> None:
    order: list[str] = []

    def arm(name: str, figure: float) -> float:
        order.append(name)
        return figure

    arms = {"a": lambda: arm("a", 1.0), "b": lambda: arm("b", 2.0)}
    assert interleave(arms, Patience(3, 60)) == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert order == ["a", "b"] * 3
    assert interleave(arms, Patience(3, 1e-12)) == {"a": [1.0], "b": [2.0]}


def test_ratios_say_how_many_times_better() -> None:
    cells = {"service": Cell([4.0, 6.0, 5.0]), "peer": Cell([10.0]), "bare": Cell(missing="why")}
    more = Row("alexnet-features.10", "", "images/s", cells)
    less = Row("rdm-1854-euclidean", "", "s", cells, more_is_better=False)
    assert more.ratio("service", "peer") == pytest.approx(0.5)
    assert less.ratio("service", "peer") == pytest.approx(2.0)
    assert more.ratio("service", "bare") is None
    assert more.ratio("service", "nobody") is None


def test_goals_are_read_off_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    goals = (
        Goal("a", "service", "peer", 1.5),
        Goal("a", "service", "bare", 1.2),
        ErrorCeiling("a", "service", 1e-5),
        Goal("not measured", "service", "peer", 1.0),
    )
    monkeypatch.setattr("bench.goals.GOALS", goals)
    cells = {"service": Cell([3.0], 1e-6), "peer": Cell([2.0]), "bare": Cell([2.6])}
    found = list(outcomes([Row("a", "", "images/s", cells)]))
    assert [one.reached for one in found] == [True, False, True]
    assert found[1].seen == pytest.approx(3 / 2.6)


@pytest.mark.parametrize("metric", METRICS)
def test_errors_are_measured_for_near_duplicates_too(metric: str) -> None:
    rows = features(KEPT_ROWS + 8)
    exact = EXACT[metric](rows.astype(np.float64))
    assert exact.shape == (KEPT_ROWS, len(rows))
    for row in NEAR_DUPLICATES:
        assert 0 < exact[row, row - 1] < exact[row, row + 1] / 10
    assert largest_error(METRICS[metric](rows.astype(np.float64)), exact) < 1e-6
    spoilt = METRICS[metric](rows.astype(np.float64))
    spoilt[5, 4] *= 1.01
    assert largest_error(spoilt, exact) == pytest.approx(0.01, rel=0.01)


def test_rows_are_chosen_by_pattern() -> None:
    names = [row.id for row in select_rows(["rdm-1854-*"], quick=False, full=False)]
    assert names == [f"rdm-1854-{metric}" for metric in METRICS]
    default = [row.id for row in select_rows([], quick=False, full=False)]
    everything = [row.id for row in select_rows([], quick=False, full=True)]
    assert set(default) < set(everything)
    assert ROW in everything
    with pytest.raises(SystemExit, match=r"nonsense.*alexnet"):
        select_rows(["nonsense"], quick=False, full=False)


def test_an_earlier_commit_is_measured_beside_this_checkout(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("builds a commit and runs two servers: scripts/test --all")
    command = [sys.executable, "-m", "bench", "--against=HEAD", "--rows", ROW, "--images=3"]
    folders = ["--photos", str(photos[0].parent), "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *folders, "--rounds=2", "--no-peer", "--device=cpu"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["id"].startswith(f"{ROW}-against-")
    assert list(row["cells"]) == ["before", "service"]
    for cell in row["cells"].values():
        assert cell["difference"] == 0
        assert len(cell["values"]) == 2
