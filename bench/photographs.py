"""The photographs for all columns: copies in one folder, as many as requested."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

from .process import PROJECT

ENDINGS = {".jpg", ".jpeg", ".png"}
_LEAST_PIXELS = 64


def photograph_folder(chosen: Path | None) -> Path:
    """Return the chosen folder, or else the reference data's, or else scikit-image's."""
    if chosen is not None:
        return chosen
    photographs = shared_data() / "photos78"
    return photographs if photographs.is_dir() else _scikit_image_folder()


def shared_data() -> Path:
    """Return the folder of reference data, which need not exist."""
    default = PROJECT.parent / "shared" / "data"
    return Path(os.environ.get("THINGSVISION_SHARED_DATA", default))


def copy_photographs(source: Path, count: int, folder: Path) -> list[Path]:
    """Copy `count` photographs, starting over if there are fewer, and return the copies' paths.

    Their names sort in this order, so that libraries that list the folder see the same order.
    """
    found = [path for path in sorted(source.iterdir()) if _is_photograph(path)]
    if not found:
        raise SystemExit(f"There are no photographs ({', '.join(sorted(ENDINGS))}) in {source}.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, path in enumerate(islice(cycle(found), count)):
        target = folder / f"{number:05d}_{path.stem}{path.suffix.lower()}"
        shutil.copyfile(path, target)
        paths.append(target)
    return paths


def _is_photograph(path: Path) -> bool:
    from PIL import Image

    if path.suffix.lower() not in ENDINGS:
        return False
    with Image.open(path) as image:
        return image.mode == "RGB" and min(image.size) >= _LEAST_PIXELS


def _scikit_image_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("Name a folder of photographs: scripts/bench --photos FOLDER")
    return Path(spec.origin).parent / "data"
