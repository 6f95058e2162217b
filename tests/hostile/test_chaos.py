"""Ten minutes of all faults together (with --all), of which the suite runs half a minute.

`scripts/test tests/hostile/test_chaos.py --all -n 0 -s` prints the figures;
CHAOS_SECONDS changes how long it takes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostile.chaos import chaos
from support.broken_network import proxy
from support.chaos_figures import table
from support.lab import found_lab
from support.tiny_photos import write_tiny_photos

SECONDS, LONG_SECONDS = 30.0, 600.0
PHOTO_COUNT = 24


@pytest.mark.timeout(2 * LONG_SECONDS)
def test_every_complete_reply_is_the_undisturbed_runs(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("all")
    seconds = float(os.environ.get("CHAOS_SECONDS", LONG_SECONDS if is_long else SECONDS))
    write_tiny_photos(tmp_path / "photos", photos, PHOTO_COUNT)
    (tmp_path / "lab").mkdir()
    lab = found_lab(tmp_path / "lab")
    with (
        proxy() as network,
        chaos(lab, network, tmp_path, tmp_path / "photos", seed=0) as running,
    ):
        running.run(seconds)
    figures = running.figures
    print(*table(figures), sep="\n")
    assert figures.losses == []
    assert figures.wrong_rows == 0
    assert all(figures.requests[person.kind] for person in running.people)
    assert len(figures.faults) >= 9
