"""One server over tiny checkpoints for each module of tests, away from the user's own caches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import TestServer, serving
from support.tiny_checkpoints import save_all


@pytest.fixture(autouse=True)
def _no_caches(no_caches_of_the_user: None) -> None:
    """No test here may find what the user has downloaded."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with all checkpoints."""
    root = tmp_path_factory.mktemp("weights")
    save_all(root)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    """A server over that folder."""
    with serving(folder, drain_seconds=1.0) as running:
        yield running
