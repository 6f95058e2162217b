"""Ten minutes of all faults of a cluster together (with --all), of which the suite runs a part.

`scripts/test tests/cluster/test_cluster_chaos.py --all -n 0 -s` prints the figures;
CHAOS_SECONDS changes how long faults are dealt; starting and ending it takes as long again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.cluster_chaos import cluster_chaos
from support.chaos_figures import table
from support.tiny_photos import write_tiny_photos

SECONDS, LONG_SECONDS = 20.0, 600.0
PHOTO_COUNT = 24


@pytest.mark.timeout(2 * LONG_SECONDS)
def test_every_job_ends_with_the_undisturbed_runs_rows(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("all")
    seconds = float(os.environ.get("CHAOS_SECONDS", LONG_SECONDS if is_long else SECONDS))
    write_tiny_photos(tmp_path / "photos", photos, PHOTO_COUNT)
    with cluster_chaos(tmp_path, tmp_path / "photos", seed=0) as running:
        running.run(seconds)
    figures = running.figures
    print(*table(figures), sep="\n")
    assert figures.losses == []
    assert figures.wrong_rows == 0
    assert all(figures.requests[person.kind] for person in running.people)
    assert len(figures.faults) >= 6
