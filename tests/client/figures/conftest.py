"""Keeps the figures that a test writes, to look at their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thingsvision_client.analysis import bars
from thingsvision_client.figures import rdm_grid


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are written, to look at their parts."""
    figures: list[Any] = []
    for module in (bars, rdm_grid):
        write = module.write_figure

        def keep(figure: Any, path: Path, write: Any = write) -> None:
            figures.append(figure)
            write(figure, path)

        monkeypatch.setattr(module, "write_figure", keep)
    return figures
