"""Thirty small photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.tiny_pcas import COUNT
from support.tiny_photos import write_tiny_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """Thirty small photographs."""
    made: Path = tmp_path_factory.mktemp("tiny")
    write_tiny_photos(made, photos, COUNT)
    return made
