"""Extractions to disk that are interrupted, and what must lie there at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thingsvision_client import Client, Model, PreprocessingOverrides
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
from thingsvision_client.values.options import OPTIONS, ExtractOptions

BATCH = 8
CHUNKS = FolderOptions(step_size=4)
CHUNK = 32
MODULES = ("features.3", "features.5")
SMALL = PreprocessingOverrides(resize=32, crop=False)
SQUEEZENET = Model("torchvision", "squeezenet1_0", "random:0")


def task_of(folder: Path, **changes: Any) -> Task:
    names = image_names(folder)
    task = Task(
        SQUEEZENET,
        MODULES,
        partial(queue_files, folder, names),
        ExtractOptions(batch_size=BATCH, preprocessing=SMALL),
        root=folder,
    )
    options = {name: changes.pop(name) for name in OPTIONS if name in changes}
    return replace(task, **changes, options=replace(task.options, **options))


def break_images(folder: Path, places: Sequence[int]) -> dict[Path, bytes]:
    """Cut the images at these places off in the middle; return what they were, by path."""
    names, were = image_names(folder), {}
    for place in places:
        path = folder / names[place]
        were[path] = path.read_bytes()
        path.unlink()  # it may be a link to an original
        path.write_bytes(were[path][: len(were[path]) // 2])
    return were


def in_memory(client: Client, task: Task) -> dict[str, Any]:
    return client.extract(
        task.model,
        task.images(),
        task.modules,
        **vars(task.options),
    ).features


class Stop:
    """Progress that interrupts an extraction as Ctrl-C does, when so many images have come."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, stage: str, done: int, count: int | None) -> None:
        if stage == "extracting" and done >= self.at:
            raise KeyboardInterrupt


def interrupted(client: Client, task: Task, folder: Path, options: FolderOptions = CHUNKS) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, task, folder, options=options, progress=Stop(at=2 * CHUNK + 1))


def chunk_paths(folder: Path, module: str, count: int, suffix: str = "") -> list[Path]:
    starts = range(0, count, CHUNK)
    stem = f"features{suffix}"
    return [folder / module / f"{stem}_{a}-{min(a + CHUNK, count)}.npy" for a in starts]


def assert_chunks(folder: Path, expected: dict[str, Any], suffix: str = "") -> None:
    for module, rows in expected.items():
        paths = chunk_paths(folder, module, len(rows), suffix)
        found = {path.name for path in (folder / module).glob(f"features{suffix}_[0-9]*.npy")}
        assert found == {path.name for path in paths}
        np.testing.assert_array_equal(np.concatenate([np.load(path) for path in paths]), rows)
