"""A server of whole models alone, and the programs that are uploaded to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import SUPPORT
from support.serving import TestServer, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("server"), drain_seconds=1.0) as running:
        yield running


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the programs that `own_networks` writes."""
    folder = tmp_path_factory.mktemp("programs")
    subprocess.run([sys.executable, SUPPORT / "own_networks.py", folder], check=True, timeout=200)
    return folder
