"""Calls whose replies are the same each time, bit for bit, whatever else the server does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from support.long_extractions import MODULES, SMALL, in_memory, task_of
from support.weight_files import digest, weights
from thingsvision_client import Client
from thingsvision_client.jobs import FolderOptions, extract_to_folder

Work = Callable[[int], Any]
"""Makes a call, the n-th of its kind, and returns its reply in a form that can be compared."""


def fixed_calls(client: Client, photos: Path, scratch: Path) -> dict[str, Work]:
    """Five kinds of calls: their replies are the same each time, bit for bit."""
    task = task_of(photos)
    alone = {"batch_size": 8, "preprocessing": SMALL}

    def extract(_: int) -> list[list[bytes]]:
        return [[row.tobytes() for row in rows] for rows in in_memory(client, task).values()]

    def rdm(_: int) -> list[list[bytes]]:
        found = client.rdm(task.model, photos, MODULES, **alone)
        return [[row.tobytes() for row in matrix] for matrix in found.rdms.values()]

    def models(_: int) -> list[str]:
        return [model.name for model in client.models("torchvision")]

    def job(number: int) -> list[list[bytes]]:
        folder = scratch / f"job-{number}"
        extract_to_folder(client, task, folder, options=FolderOptions(step_size=1))
        files = sorted(folder.rglob("*.npy"))
        return [[row.tobytes() for row in np.load(path)] for path in files]

    def upload(number: int) -> bool:
        content = weights(0.5, seed=number)
        path = scratch / "weights.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return client.upload_weights(path) == digest(content)

    return {"extract": extract, "rdm": rdm, "models": models, "job": job, "upload": upload}
