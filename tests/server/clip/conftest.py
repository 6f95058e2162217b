"""Sources over an empty folder of weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.serving import open_sources
from thingsvision_server.sources import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return open_sources(tmp_path)
