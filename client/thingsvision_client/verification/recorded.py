"""What lies beside a file of features, read: which extraction its arrays are of; opens no image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError
from ..images.image import ImageContent, SentImage, file_image
from ..origins import Fingerprint, fingerprint_of
from ..values.model import Model
from ..values.preprocessing import PreprocessingOverrides
from ..values.reductions import Reduction


@dataclass(frozen=True)
class RecordedArray:
    """An array of a file: its module, shape and type, and its rows of the extraction."""

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    stop: int


@dataclass(frozen=True)
class Recorded:
    """One extraction: what computed it, the arrays of the file, and the images of their rows.

    The first image is that of row `start` of the extraction.
    """

    facts: Mapping[str, Any]
    arrays: tuple[RecordedArray, ...]
    start: int
    images: tuple[Fingerprint, ...]

    @property
    def model(self) -> Model:
        """Return the model, its weights named in full."""
        return Model.parse(self.facts["model"])

    @property
    def modules(self) -> list[str]:
        """Return the modules of the arrays, each once."""
        return list(dict.fromkeys(array.module for array in self.arrays))

    @property
    def changes(self) -> PreprocessingOverrides | None:
        """Return what was changed of the model's own preprocessing."""
        changes = self.facts["preprocessing_changes"]
        return None if changes is None else PreprocessingOverrides(**changes)

    @property
    def choices(self) -> dict[str, Any]:
        """Return further arguments of `Client.stream`."""
        choices = dict(self.facts["choices"])
        if choices.get("reduction") is not None:
            choices["reduction"] = Reduction(**choices["reduction"])
        return choices

    def sent_images(self, root: Path | None) -> list[SentImage]:
        """Return the images to be read again, below `root` or where they were.

        Raises InvalidRequestError where nothing kept them.
        """
        kind = self.facts["input"]
        if kind not in _READERS:
            raise InvalidRequestError(
                "These features are of arrays that were inputs already, which no file keeps: "
                "extract them again, and compare."
            )
        given = root or self.facts["image_root"]
        images = [_READERS[kind](Path(given or ""), image.name) for image in self.images]
        if kind == "text":
            _check_texts(images, self.images)
        elif given is None:
            _check_files(images)
        return images


def _file(folder: Path, name: str) -> SentImage:
    return file_image(name, folder / name)


def _text(_: Path, name: str) -> SentImage:
    return SentImage(name, partial(ImageContent, name), "text")


_READERS = {"encoded": _file, "text": _text}
"""How an image is read again as it was sent, by its kind. A text is its own name."""


def _check_texts(texts: Sequence[SentImage], sent: Sequence[Fingerprint]) -> None:
    """Refuse texts with names of their own, which alone are known."""
    for text, was in zip(texts, sent, strict=True):
        if fingerprint_of(text).sha256 != was.sha256:
            raise InvalidRequestError(
                f"The text called {text.name!r} is kept by no file, only its name and SHA-256: "
                "extract the features of the texts again, and compare."
            )


def _check_files(images: Sequence[SentImage]) -> None:
    """Refuse names that are no paths, of images that lay in no folder."""
    if not any(Path(image.name).is_file() for image in images):
        raise InvalidRequestError(
            f"These features are of images that were no files, such as {images[0].name!r} (rows of "
            "an HDF5Dataset, or bytes), which nothing kept: extract them again, and compare. If "
            "they lie as files of these names in a folder, name it as image_root."
        )


def read_recorded(document: Mapping[str, Any]) -> list[Recorded]:
    """Return the extractions that a file's arrays are of. Raises InvalidRequestError for none."""
    origins = document.get("origins")
    modules = document["modules"]
    if origins is None:
        known = {name: array for name, array in modules.items() if array["module"] is not None}
        found = [_recorded(document, known)] if known else []
    else:
        found = [_recorded(origin, {name: modules[name]}) for name, origin in origins.items()]
    if not found:
        raise InvalidRequestError(f"{document['file']}: {document.get('note', '')}")
    return found


def _recorded(origin: Mapping[str, Any], arrays: Mapping[str, Any]) -> Recorded:
    images = tuple(Fingerprint(image["name"], image["sha256"]) for image in origin["images"])
    return Recorded(origin, tuple(_arrays(arrays)), origin["rows"][0], images)


def _arrays(arrays: Mapping[str, Any]) -> Iterator[RecordedArray]:
    for name, array in arrays.items():
        rows: Sequence[int] = array["rows"]
        yield RecordedArray(name, array["module"], tuple(array["shape"]), array["dtype"], *rows)
