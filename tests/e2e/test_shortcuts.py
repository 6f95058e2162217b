"""A server without its shortcuts gives the same: features bit by bit, RDMs to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import models

from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_server.backends.torch.shortcuts import SHORTCUTS

MODEL, MODULES = "torchvision/squeezenet1_1", ["features.2", "features.5", "classifier.3"]
OFF = {
    "fast_max_pool": False,
    "skip_initialisation": False,
    "keep_freed_memory": False,
    "rdm_thread_pool": False,
    "fast_frames": False,
    "throttle_imports": False,
}


def test_all_switches_off_change_no_feature(
    server: TestServer, start_server: Callable[..., Any], photos: list[Path], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    file = tmp_path / "squeezenet.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), file)

    def ask(address: str) -> Any:
        with Client(address) as client:
            model = f"{MODEL}@sha256:{client.upload_weights(file)}"
            features = client.extract(model, photos, MODULES, batch_size=2)
            return features, client.rdm(model, photos, MODULES, dtype="float64", batch_size=2)

    features, rdms = ask(server.address)
    with start_server(**OFF) as plain:
        assert not SHORTCUTS.fast_max_pool
        found, plain_rdms = ask(plain.address)
    assert SHORTCUTS.fast_max_pool
    assert found.provenance.model_sha256 == features.provenance.model_sha256
    for module in MODULES:
        np.testing.assert_array_equal(found.features[module], features.features[module])
        np.testing.assert_allclose(
            plain_rdms.rdms[module], rdms.rdms[module], rtol=1e-12, atol=1e-14
        )
