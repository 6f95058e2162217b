"""A batch size that the server lowers is told, with the limit that did it; values stay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.closeness import assert_close
from thingsvision_client import Client

MODEL = "torchvision/squeezenet1_1@random:0"


def test_every_call_names_the_limit_that_lowered_batch_size(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    with start_server(max_batch=2, max_batch_bytes=5_000_000) as server:
        with Client(server.address) as client, warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = client.extract(MODEL, photos, "features.12", batch_size=2)
        with Client(server.address) as client:
            lowered = r"lowered batch_size from 32 to 2 because of its limit --max-batch 2\. The"
            with pytest.warns(UserWarning, match=lowered):
                found = client.extract(MODEL, photos, "features.12", batch_size=32)
            np.testing.assert_array_equal(*(x.features["features.12"] for x in (expected, found)))
            with pytest.warns(UserWarning, match=f"{lowered} values are the same"):
                rdm = client.rdm(MODEL, photos, "features.12", batch_size=32)
            assert_close(
                rdm.rdms["features.12"],
                client.rdm(MODEL, photos, "features.12", batch_size=2).rdms["features.12"],
                1e-6,
            )
            with pytest.warns(UserWarning, match="lowered batch_size from 32 to 2"):
                client.fit_pca(MODEL, photos, "features.12", components=1, batch_size=32)
            # 64 x 111 x 111 float32
            bytes_fault = r"to 1 because of its limit --max-batch-bytes 5,000,000, where an image"
            with pytest.warns(UserWarning, match=rf"{bytes_fault} has 3,154,176 bytes"):
                client.extract(MODEL, photos, "features.0", batch_size=2)
