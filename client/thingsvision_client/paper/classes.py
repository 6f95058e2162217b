"""Names of ImageNet's classes, and the most probable classes of images."""

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
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..files import atomic_file
from ..origins.replacing import warn_of_replaced
from ..utils.file_names import FILE_NAMES, read_names

_LINES = (
    re.compile(r"\{?\s*(?P<number>\d+)\s*:\s*(?P<quote>['\"])(?P<name>.+?)(?P=quote)\s*,?\s*\}?"),
    re.compile(r"(?P<name>.+)\.n\.\d+"),
    re.compile(r"n\d{8}\s+(?P<name>.+)"),
    re.compile(r"(?P<number>\d+)[:,]?\s+(?P<name>.+)"),
    re.compile(r"(?P<name>.+)"),
)
"""Patterns of lines in class files, in the order tried: `0: 'tench, Tinca tinca',` (a dictionary),
`tench.n.01` (WordNet), `n01440764 tench, Tinca tinca` (Kaggle), `0 tench`, and `tench`."""


@check_arguments
def get_cls_mapping_imagenet(
    PATH: str | Path,  # noqa: N803 - the library's own name
    save_as_json: bool = False,
) -> dict[int, str]:
    """Return the names of classes by their numbers, from a text file with one class per line.

    Lines may be names or synsets, with numbers or in order. Of synonyms, the first is used, in
    lower case, with `_` for spaces.

    Args:
        PATH: The file, such as ImageNet's `LOC_synset_mapping.txt`.
        save_as_json: Also write the names to `imagenet_idx2class.json` beside the file.

    Returns:
        Names by number, from 0 on.

    Raises:
        InvalidRequestError: A file that can't be read, or a number that is missing or there twice.

    Example:
        ```python
        from pathlib import Path
        from thingsvision_client import vision

        lines = ["n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus"]
        Path("classes.txt").write_text(chr(10).join(lines))
        print(vision.get_cls_mapping_imagenet("classes.txt"))
        ```

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
        raise InvalidRequestError(f"{path} must have a class for each number, counting from 0.")
    if save_as_json:
        _write_json(path.with_name("imagenet_idx2class.json"), classes)
    return classes


@check_arguments
def get_class_probabilities(
    probas: npt.ArrayLike,
    out_path: str | Path,
    cls_file: str | Path,
    top_k: int,
    save_as_json: bool,
) -> dict[str, dict[str, float]]:
    """Return the most probable classes of each image, the most probable one first.

    Images are named by `file_names.txt` in `out_path`. If several classes have one name (two of
    ImageNet's are cranes), their number follows: `crane_134`.

    Args:
        probas: Images x classes, as returned by `Model.extract_features` if
            `return_probabilities` is True.
        out_path: Folder of `file_names.txt`.
        cls_file: File of class names, as for `get_cls_mapping_imagenet`.
        top_k: Number of classes per image.
        save_as_json: Also write the result to `class_probabilities.json` in `out_path`.

    Returns:
        Probabilities by class name, by image name.

    Raises:
        InvalidRequestError: Numbers of images or classes that don't match, or `top_k` out of range.

    Example:
        ```python
        from pathlib import Path
        from thingsvision_client import load_batches, vision

        load_batches("photos", "results", "pt", batch_size=32)  # writes file_names.txt
        Path("classes.txt").write_text("tench goldfish".replace(" ", chr(10)))
        probabilities = [[0.25, 0.75]] * len(list(Path("photos").iterdir()))
        print(vision.get_class_probabilities(probabilities, "results", "classes.txt", 1, False))
        ```

    """
    rows, folder = as_array(probas), Path(out_path)
    names, classes = read_names(folder), _distinct(get_cls_mapping_imagenet(cls_file))
    if names is None or rows.shape != (len(names), len(classes)):
        images = "no" if names is None else len(names)
        raise InvalidRequestError(
            f"`probas` must be images x classes, got shape {rows.shape}; {folder / FILE_NAMES} "
            f"names {images} images, and {cls_file} {len(classes)} classes."
        )
    if not 1 <= top_k <= len(classes):
        raise InvalidRequestError(
            f"`top_k` must be from 1 to {len(classes)}, the number of classes, got {top_k}."
        )
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
    with warn_of_replaced(path), atomic_file(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())
