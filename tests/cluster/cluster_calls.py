"""What the people of a cluster do whose servers die: calls whose replies are the same each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torchvision
from safetensors.torch import save_file

from support.fixed_calls import fixed_calls
from support.long_extractions import BATCH, SMALL
from support.own_files import DECLARED, onnx_file
from support.own_networks import network
from thingsvision_client import Client, Model, Reduction

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.5"
GUEST_MODULE = "act2"

Call = Callable[[int], Any]


def cluster_calls(first: Client, second: Client, photos: Path, scratch: Path) -> dict[str, Call]:
    """Return the calls by name, through clients of two gateways.

    A number chooses the folder or the name of the result. A call may send what is on the servers.
    """
    clients = (first, second)
    fixed = [fixed_calls(one, photos, scratch / f"jobs-{i}") for i, one in enumerate(clients)]
    weights = scratch / "weights-of-a-user.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), weights)
    program = onnx_file(network(0), scratch / "own.onnx")
    alone = {"batch_size": BATCH, "preprocessing": SMALL}

    def own_weights(_: int) -> Any:
        model = Model("torchvision", "squeezenet1_1", f"sha256:{first.upload_weights(weights)}")
        return rows_of(first.extract(model, photos, MODULE, **alone).features)

    def own_program(_: int) -> Any:
        model = second.upload_model(program, DECLARED)
        return rows_of(second.extract(model, photos, GUEST_MODULE, batch_size=BATCH).features)

    def stream(_: int) -> Any:
        parts = first.stream(MODEL, photos, MODULE, **alone)
        return [[row.tobytes() for _, part in parts for row in part[MODULE]]]

    def pca(number: int) -> Any:
        name = f"pca-{number}"
        second.fit_pca(MODEL, photos, MODULE, components=3, name=name, **alone)
        reduced = second.extract(MODEL, photos, MODULE, reduction=Reduction(pca=name), **alone)
        return rows_of(reduced.features)

    return {
        "extract": fixed[1]["extract"],
        "rdm": fixed[0]["rdm"],
        "job": fixed[0]["job"],
        "job of the other gateway": fixed[1]["job"],
        "stream": stream,
        "own weights": own_weights,
        "own program": own_program,
        "pca": pca,
    }


def rows_of(features: Mapping[str, Any]) -> list[list[bytes]]:
    """Return the bytes of each row of each module."""
    return [[row.tobytes() for row in rows] for rows in features.values()]
