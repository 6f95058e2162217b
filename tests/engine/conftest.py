"""A residency with real loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.model_house import make_house


@pytest.fixture
def house(tmp_path: Path) -> Callable[..., Any]:
    """Open a residency with room for some SqueezeNets."""
    return make_house(tmp_path)
