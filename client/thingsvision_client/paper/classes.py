"""Names of ImageNet's classes, and the most probable ones of images; knows no server."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import as_array
from ..errors import InvalidRequestError
from ..files import replacing
from ..utils.data import FILE_NAMES
from ..utils.writing import listed_names

_LINES = (
    re.compile(r"\{?\s*(?P<number>\d+)\s*:\s*(?P<quote>['\"])(?P<name>.+?)(?P=quote)\s*,?\s*\}?"),
    re.compile(r"(?P<name>.+)\.n\.\d+"),
    re.compile(r"n\d{8}\s+(?P<name>.+)"),
    re.compile(r"(?P<number>\d+)[:,]?\s+(?P<name>.+)"),
    re.compile(r"(?P<name>.+)"),
)
"""Lines of files of classes, the first that fits: `0: 'tench, Tinca tinca',` of a dictionary,
`tench.n.01` of WordNet, `n01440764 tench, Tinca tinca` of Kaggle, `0 tench`, and `tench`."""


def get_cls_mapping_imagenet(
    PATH: str | Path,  # noqa: N803 - the library's own name
    save_as_json: bool = False,
) -> dict[int, str]:
    """Return the names of classes by their numbers, from a file with a class per line.

    The file may be of classes or synsets, with numbers or in their order; of synonyms the first is
    taken, lower case, with `_` for spaces. `save_as_json` also writes them to
    `imagenet_idx2class.json` beside the file. Raises InvalidRequestError.
    """
    path = Path(PATH)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read a list of classes from {path}: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t{}")]
    read = [_class(line, place) for place, line in enumerate(lines)]
    classes = dict(sorted(read))
    if not classes or list(classes) != list(range(len(read))):
        raise InvalidRequestError(f"{path} does not have one class for each number from 0 on.")
    if save_as_json:
        _write_json(path.with_name("imagenet_idx2class.json"), classes)
    return classes


def get_class_probabilities(
    probas: npt.ArrayLike,
    out_path: str | Path,
    cls_file: str | Path,
    top_k: int,
    save_as_json: bool,
) -> dict[str, dict[str, float]]:
    """Return the `top_k` most probable classes of each image, the most probable one first.

    `probas` is images x classes, as `Model.extract_features(return_probabilities=True)` returns.
    Images are named by the `file_names.txt` in `out_path`, classes by `get_cls_mapping_imagenet`;
    where several have one name (two of ImageNet's are cranes), the number follows: `crane_134`.
    `save_as_json` also writes them to `class_probabilities.json` in `out_path`. Raises
    InvalidRequestError where these don't fit each other.
    """
    rows, folder = as_array(probas), Path(out_path)
    names, classes = listed_names(folder), _distinct(get_cls_mapping_imagenet(cls_file))
    if names is None or rows.shape != (len(names), len(classes)):
        images = "no" if names is None else len(names)
        raise InvalidRequestError(
            f"probas has the shape {rows.shape}, but {folder / FILE_NAMES} names {images} images, "
            f"and {cls_file} {len(classes)} classes."
        )
    if not 1 <= top_k <= len(classes):
        raise InvalidRequestError(f"top_k is 1 to {len(classes)}, the number of classes.")
    best = np.argsort(-rows, axis=1, kind="stable")[:, :top_k]
    found = {
        name: {classes[int(number)]: float(row[number]) for number in numbers}
        for name, row, numbers in zip(names, rows, best, strict=True)
    }
    if save_as_json:
        _write_json(folder / "class_probabilities.json", found)
    return found


def _class(line: str, place: int) -> tuple[int, str]:
    match = next(filter(None, (pattern.fullmatch(line) for pattern in _LINES)))
    name = match["name"].split(",")[0].strip(" '\"").lower()
    return int(match.groupdict().get("number") or place), re.sub(r"\s+", "_", name)


def _distinct(classes: Mapping[int, str]) -> dict[int, str]:
    counts = Counter(classes.values())
    return {
        number: f"{name}_{number}" if counts[name] > 1 else name for number, name in classes.items()
    }


def _write_json(path: Path, content: Mapping[Any, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())
