"""The metadata of a file of features: JSON beside it that says where they came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.arguments import as_path
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..files import atomic_file, metadata_path, sha256_of
from ..values.version import client_version
from .description import now
from .memory import origin_of

if TYPE_CHECKING:
    from ..arrays import Array

FORMAT = 1
_OF_ONE_ARRAY = ("module", "rows", "images")
_NUMBERS = re.compile(r"(?<=\[)[-+.\deE,\s]+(?=\])")
"""The inside of a list of numbers, which is written in one line. Strings have no line breaks."""

_UNKNOWN = (
    "The origin of these features is unknown: they were modified, copied or computed elsewhere."
)


@dataclass(frozen=True)
class Content:
    """One array of a file: its shape, with images first, and its origin by `origin_of`.

    Without an origin, the SHA-256 of its values (in C order) tells it from other arrays.
    """

    shape: tuple[int, ...]
    dtype: str
    origin: Mapping[str, Any] | None
    values_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are about this array alone."""
        known = self.origin or {}
        told = {
            "module": known.get("module"),
            "shape": list(self.shape),
            "dtype": self.dtype,
            "rows": known.get("rows"),
        }
        digest = self.values_sha256
        return told if digest is None else {**told, "values_sha256": digest}


def write_origin(
    path: Path, features: Array | Mapping[str, Array], names: Sequence[str] | None = None
) -> None:
    """Write the metadata of a complete file: where its arrays came from, as far as known.

    `names` of the rows are written unless the images of the origin are called so.
    """
    arrays = features if isinstance(features, Mapping) else {"features": features}
    contents = {name: content_of(array) for name, array in arrays.items()}
    write_contents(path, contents, names)


def content_of(array: Array) -> Content:
    """Return what metadata say of an array, as far as its origin is known."""
    origin = origin_of(array)
    digest = sha256_of_values(array) if origin is None else None
    return Content(tuple(array.shape), str(array.dtype), origin, digest)


def sha256_of_values(array: Array) -> str:
    """Return the SHA-256 (hex) of the values of an array, in C order."""
    import numpy as np

    values = np.ascontiguousarray(array)
    return hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest()


def write_contents(
    path: Path,
    contents: Mapping[str, Content],
    names: Sequence[str] | None = None,
    **facts: Any,
) -> None:
    """Write the metadata of a complete file, from its arrays by their names in it.

    `facts` are further fields, such as the metric of RDMs.
    """
    write_document(path, {**document_of(contents, names), **facts})


def document_of(
    contents: Mapping[str, Content], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what metadata say of arrays, by their names in a file."""
    origins = _origins(contents)
    images = [image["name"] for image in origins.get("images", [])]
    if names is not None and list(names) != images:
        origins["names"] = list(names)
    return {"modules": {name: content.to_dict() for name, content in contents.items()}, **origins}


def write_document(path: Path, facts: Mapping[str, Any]) -> None:
    """Write metadata of a complete file: these facts, its SHA-256, and when it was written."""
    document = {
        "format": FORMAT,
        "file": path.name,
        "file_sha256": file_sha256(path),
        "written": now(),
        "client_version": client_version(),
        **facts,
    }
    with atomic_file(metadata_path(path)) as file:
        file.write(_text(document).encode())


@check_arguments
def read_origin(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a file of features, which lies beside it as JSON.

    Args:
        path: A file of features, such as `Path("results/features.npy")`.

    Returns:
        The metadata: SHA-256 of the file, model and SHA-256 of its weights, preprocessing, options,
        versions, and the name and SHA-256 of each row's image.

    Raises:
        InvalidRequestError: There is no metadata, or it can't be read.

    Example:
        ```python
        from pathlib import Path
        from thingsvision_client import get_extractor, load_batches, read_origin, save_features

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
        origin = read_origin(Path("results/features.npy"))
        print(origin["model"], origin["model_sha256"], origin["images"][0])
        ```

    """
    path = as_path("path", path)
    beside = metadata_path(path)
    if not beside.exists():
        raise InvalidRequestError(_without_metadata(path, beside))
    try:
        document: Any = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"Can't read {beside}, the metadata of {path}: {error}"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidRequestError(f"{beside} is not metadata of features (format {FORMAT}).")
    return document


def _without_metadata(path: Path, beside: Path) -> str:
    """Return the sentence about a file without metadata: it may itself be missing."""
    described = path.with_suffix("")
    if path.is_file() and path.suffix == ".json" and described.is_file():
        return f"{path} is metadata itself: pass the file that it describes, {described}."
    if path.is_file():
        return f"{path} has no metadata: {beside.name} must lie beside it, as it was written."
    if path.is_dir():
        return f"{path} is a folder: pass the path of a file in it, such as features.npy."
    if path.with_name(f".{path.name}.parts").is_dir():
        return (
            f"{path} is not complete: its extraction has not ended. Make the same call again, "
            "which goes on from there. Repair or remove images that can't be used, or leave them "
            "out with on_error='skip' (--on-error skip)."
        )
    return f"There is no file {str(path)!r}."


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hex, in flat memory."""
    with path.open("rb") as file:
        return sha256_of(file)


def _origins(contents: Mapping[str, Content]) -> dict[str, Any]:
    """Return one origin for all arrays if they share it, else one per known array."""
    known = {name: one.origin for name, one in contents.items() if one.origin is not None}
    if not known:
        return {"note": _UNKNOWN}
    facts = [_facts(origin) for origin in known.values()]
    rows = _merge_rows(list(known.values()))
    if rows is not None and all(one == facts[0] for one in facts):
        return {**facts[0], **rows}
    return {"origins": {name: dict(origin) for name, origin in known.items()}}


def _facts(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in origin.items() if key not in _OF_ONE_ARRAY}


def _merge_rows(origins: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the rows and images of several arrays; None if they are not of one extraction."""
    images: list[Any] = []
    ordered = sorted(origins, key=lambda origin: origin["rows"])
    first = ordered[0]["rows"][0]
    for origin in ordered:
        offset = origin["rows"][0] - first
        shared = images[offset : offset + len(origin["images"])]
        if offset > len(images) or shared != origin["images"][: len(shared)]:
            return None
        images.extend(origin["images"][len(shared) :])
    return {"rows": [first, first + len(images)], "images": images}


def _text(document: Mapping[str, Any]) -> str:
    """Return JSON with one line per image, so that 10,000 images stay readable."""
    rest = {name: value for name, value in document.items() if name != "images"}
    dumped = json.dumps(rest, indent=2, ensure_ascii=False)
    text = _NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), dumped).removesuffix("\n}")
    if not document.get("images"):
        return text + "\n}\n"
    lines = (f"    {json.dumps(image, ensure_ascii=False)}" for image in document["images"])
    return f'{text},\n  "images": [\n' + ",\n".join(lines) + "\n  ]\n}\n"
