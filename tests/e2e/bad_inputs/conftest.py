"""A server with low limits, and a caller that checks that it still works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.bad_requests import MAX_IMAGE_BYTES, MAX_UPLOAD_BYTES, features
from support.serving import TestServer, serving
from support.stock_calls import StockCaller, stock_calls
from thingsvision_client import Client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    """A server with low limits."""
    limits = {"max_image_bytes": MAX_IMAGE_BYTES, "max_upload_bytes": MAX_UPLOAD_BYTES}
    with serving(folder, drain_seconds=1.0, **limits) as running:
        yield running


@pytest.fixture
def uploads(folder: Path) -> Path:
    return folder / "uploads"


@pytest.fixture(scope="module")
def expected(server: TestServer) -> Any:
    with Client(server.address) as client:
        return features(client)


@pytest.fixture
def stock(server: TestServer, client: Client, expected: Any) -> Iterator[StockCaller]:
    """A caller; after the test, the server still works, and holds no lease."""
    with stock_calls(server.address) as caller:
        yield caller
    np.testing.assert_array_equal(features(client)["features.0"], expected["features.0"])
    assert all(model.lease_count == 0 for model in client.residency().models)
