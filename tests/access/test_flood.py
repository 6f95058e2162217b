"""A flood of wrong tokens costs an honest client a little time, and the operator no disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bystander import bystander
from support.flood import flood
from support.lab import Lab, found_lab
from support.server_process import ServerProcess, server_process
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.sparing import Sparing
from thingsvision_server.access.tokens import new_token

SECONDS = 4.0
MOST_LINES = 20
"""Refusals in the log in each second."""


@pytest.fixture
def home(tmp_path: Path) -> Lab:
    return found_lab(tmp_path)


@pytest.fixture
def server(home: Lab, token: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that knows the token."""
    with server_process(tmp_path, tokens=home.tokens, audit_log=tmp_path / "audit.jsonl") as found:
        yield found


@pytest.fixture
def token(home: Lab) -> str:
    return home.add_token("ada", Scope.READ, Scope.EXTRACT)


def test_an_honest_client_is_answered_beside_wrong_tokens(
    home: Lab, token: str, server: ServerProcess, photos: list[Path], tmp_path: Path
) -> None:
    wrong = new_token()[1]
    with flood(server.address, wrong, tmp_path) as attack:
        began = time.monotonic()
        with bystander(server.address, photos, 0.1, token=token) as honest:
            time.sleep(SECONDS)
        rate, seconds = attack.rate, time.monotonic() - began
    print(f"{rate:,.0f} wrong tokens a second; honest p95 {honest.p95_seconds:.3f} s")
    assert rate > 50, "this is not a flood"
    assert honest.failures == []
    assert len(honest.seconds) > SECONDS
    refused = server.figure("grpc_server_handled_total", grpc_code="UNAUTHENTICATED")
    assert refused >= attack.refused_count
    for log in (server.log, (tmp_path / "audit.jsonl").read_text()):
        lines = [line for line in log.splitlines() if "UnauthenticatedError" in line]
        assert 0 < len(lines) <= MOST_LINES * (seconds + 5)
        assert any("unwritten_refusals" in line for line in lines)
    assert server.internal_error_count == 0


def test_only_the_first_events_of_a_second_are_written() -> None:
    now = 0.0
    sparing = Sparing(lambda: now)
    assert [sparing.take() for _ in range(25)] == [0] * 20 + [None] * 5
    now = 1.0
    assert [sparing.take(), sparing.take()] == [5, 0]
