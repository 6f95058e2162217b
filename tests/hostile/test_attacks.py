"""Every attack, on a server in its own process beside a second client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.attacks import ATTACKS, Attack, Target
from support.bystander import bystander
from support.server_process import ServerProcess, server_process

GROWTH_BYTES = 10**9
DECODE_SECONDS = 30


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("attacked")) as server:
        with bystander(server.address, photos, 0.1):  # what it needs is loaded
            pass
        yield server


@pytest.fixture(scope="module")
def idle_bytes(process: ServerProcess) -> int:
    return process.resident_bytes


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_hurts_nobody_else(
    attack: Attack,
    process: ServerProcess,
    idle_bytes: int,
    photos: list[Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if attack.is_long and not request.config.getoption("all"):
        pytest.skip("takes long; --all runs it")
    target = Target(process.address, process.process, photos, tmp_path)
    with bystander(process.address, photos, 0.5) as other:
        attack.run(target)
    assert not other.failures
    assert process.process.is_running()
    # An image of 100 megapixels takes 1.5 GB until the library that decodes it returns.
    until = time.monotonic() + DECODE_SECONDS
    while process.resident_bytes >= idle_bytes + GROWTH_BYTES:
        assert time.monotonic() < until, f"{process.resident_bytes:,} bytes are held"
        time.sleep(0.1)
    assert process.internal_error_count == 0, process.log
