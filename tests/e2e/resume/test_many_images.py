"""Ten thousand images keep their order."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from support.closeness import assert_close
from support.long_extractions import (
    in_memory,
    task_of,
)
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, PreprocessingOverrides
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, extract_to_folder


def test_ten_thousand_images_keep_their_order(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    count, folder, out = 10_000, tmp_path / "images", tmp_path / "out"
    for place, name in enumerate(("Vögel", "a b", "猫", "z")):
        write_tiny_photos(folder / name, photos, 2500, first=place * 2500, side=24)
    tiny = PreprocessingOverrides(resize=24, crop=False)
    task = task_of(folder, modules=("features.2",), batch_size=32, preprocessing=tiny, flatten=True)
    extract_to_folder(client, task, out, options=FolderOptions(in_one_file=True))
    path = out / "features.2" / "features.npy"
    rows = np.load(path)
    names = image_names(folder)
    told = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
    assert len(rows) == len(names) == count
    assert [image["name"] for image in told["images"]] == names
    assert len({row.tobytes() for row in rows}) > 0.99 * count, "rows are alike"
    for row in [0, 1, 31, 32, 4095, 4096, count - 1, *range(7, count, 997)]:
        alone = replace(task, images=partial(queue_files, folder, names[row : row + 1]))
        (own,) = in_memory(client, alone).values()
        assert_close(rows[row], own.reshape(-1))
