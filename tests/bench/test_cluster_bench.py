"""The benches of a cluster, small: what they print, and that models stay where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from support.checkout import CHECKOUT


@pytest.fixture(autouse=True)
def _only_with_all(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("all"):
        pytest.skip("takes a minute; give --all")


def rows_of(module: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_endpoints_that_leave_take_along_few_models() -> None:
    rows = rows_of("bench.cluster.endpoints", "--endpoints=10", "--models=60")
    few, _, many, placement, *leaving = rows
    assert (few["endpoints"], many["endpoints"]) == (3, 10)
    assert placement["gateways_differ"] == 0
    for row in leaving:
        assert row["not_back"] == 0
        assert row["had_to_move"] <= row["moved"] <= row["had_to_move"] + 15


def test_both_ways_are_measured() -> None:
    small = ("--rounds=1", "--seconds=0.5", "--calls=5", "--megabytes=4")
    rows = rows_of("bench.cluster", *small)
    clients = [row for row in rows if row["row"] == "images per second"]
    assert len(clients) == 9
    for row in clients:
        assert row["direct_loads"] == row["models"] <= row["gateway_loads"]
        assert row["direct_failed"] == row["gateway_failed"] == 0
        assert row["direct_images_per_s"] > 0
