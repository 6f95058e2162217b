"""A server that takes uploads of up to 64 MiB, and its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import TestServer, serving
from support.weight_files import MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    with serving(folder, drain_seconds=1.0, max_upload_bytes=64 * MIB) as running:
        yield running
