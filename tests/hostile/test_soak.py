"""Half an hour of all attacks and ordinary work (with --all), of which the suite runs seconds.

`scripts/test tests/hostile/test_soak.py --all -n 0 -s` prints the figures;
SOAK_SECONDS changes how long it takes.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from hostile.attacks import ATTACKS
from hostile.soak import BUDGET, Soak, grown
from support.bystander import bystander
from support.server_process import server_process

SECONDS, LONG_SECONDS = 5.0, 1800.0


@pytest.mark.timeout(3 * LONG_SECONDS)
def test_a_server_has_at_the_end_what_it_had_at_the_beginning(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("all")
    seconds = float(os.environ.get("SOAK_SECONDS", LONG_SECONDS if is_long else SECONDS))
    attacks = [one for one in ATTACKS.values() if not one.is_long]  # others take minutes each
    (tmp_path / "attacks").mkdir()
    with server_process(tmp_path, **BUDGET) as server:
        soak = Soak(server, photos, tmp_path / "attacks", attacks, partial(print, flush=True))
        with bystander(server.address, photos, 1.0) as other:
            soak.do_everything(attacks=is_long)
        before = soak.quieten()
        print("idle ", before.row())
        with bystander(server.address, photos, 1.0) as other:
            soak.run(seconds)
        after = soak.quieten(before)
        print("idle ", after.row())
        print(soak.counts)
        print(f"second client: {len(other.seconds)} calls, p95 {other.p95_seconds:.2f} s")
        assert not soak.faults
        assert not other.failures
        assert grown(before, after) == []
        assert server.internal_error_count == 0
        assert server.process.is_running()
