"""The metadata of a file of features: which extraction its arrays came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from ..calls.arguments import expand_home
from ..errors import InvalidRequestError
from ..images.image import ImageContent, SentImage, file_image
from ..origins import Fingerprint, fingerprint_of
from ..values.cores import Cores
from ..values.model import Model
from ..values.options import ExtractOptions


@dataclass(frozen=True)
class RecordedArray:
    """An array of a file: module, shape, type, and which rows of the extraction it has."""

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    stop: int


@dataclass(frozen=True)
class Recorded:
    """One extraction: what computed it, the arrays of the file, and the images of their rows.

    The first image is row `start` of the extraction. Images without a row had places in its
    batches, too.
    """

    facts: Mapping[str, Any]
    arrays: tuple[RecordedArray, ...]
    start: int
    images: tuple[Fingerprint, ...]

    @property
    def model(self) -> Model:
        """The model, with its weights named in full."""
        return Model.parse(self.facts["model"])

    @property
    def modules(self) -> list[str]:
        """The modules of the arrays, each once."""
        return list(dict.fromkeys(array.module for array in self.arrays))

    @property
    def options(self) -> ExtractOptions:
        """The options of the extraction."""
        told = {
            "batch_size": self.facts["batch_size"] or None,
            "token_extraction": self.facts["token_extraction"],
            "preprocessing": self.facts["preprocessing_changes"],
        }
        return ExtractOptions.from_json(told | self.facts["choices"])

    @property
    def cores(self) -> Cores:
        """The cores of passes; a lane's if the file was written before servers told them."""
        return Cores.from_facts(self.facts)

    @property
    def holes(self) -> frozenset[int]:
        """The places of images without a row, as far as the file tells."""
        return frozenset(one["place"] for one in self.facts.get("skipped", ()))

    def places(self) -> tuple[int, list[int]]:
        """Return the first place, and that of each row's image, in the list as first given."""
        first = self.facts.get("first_place")
        known: Iterator[int] = (place for place in count(first or 0) if place not in self.holes)
        if first is None and self.start:
            known = islice(known, self.start, None)
        found = list(islice(known, len(self.images)))
        return (found[0] if found and self.start else 0) if first is None else first, found

    def sent_images(self, root: Path | None) -> list[SentImage]:
        """Return the images to send again, from `root` or from where they were.

        Raises InvalidRequestError for images that are not stored anywhere.
        """
        kind = self.facts["input"]
        if kind not in _READERS:
            raise InvalidRequestError(
                "These features come from arrays of model inputs, which are not stored: "
                "extract them again, and compare."
            )
        given = root or self.facts["image_root"]
        images = [
            _READERS[kind](Path(expand_home(given or "")), image.name) for image in self.images
        ]
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
"""How to read an image again as it was sent, by its kind; a text is its own name."""


def _check_texts(texts: Sequence[SentImage], sent: Sequence[Fingerprint]) -> None:
    """Raise InvalidRequestError for texts with names of their own, since only names are stored."""
    for text, was in zip(texts, sent, strict=True):
        if fingerprint_of(text).sha256 != was.sha256:
            raise InvalidRequestError(
                f"Only the name and the SHA-256 of the text {text.name!r} are stored: extract the "
                "features of the texts again, and compare."
            )


def _check_files(images: Sequence[SentImage]) -> None:
    """Raise InvalidRequestError for names that are not paths, of images outside any folder."""
    if not any(Path(image.name).is_file() for image in images):
        raise InvalidRequestError(
            f"These features come from images that were not files, such as {images[0].name!r} "
            "(rows of an HDF5Dataset, or bytes), and are not stored: extract them again, and "
            "compare. If a folder has files of these names, pass it as image_root."
        )


def read_recorded(document: Mapping[str, Any]) -> list[Recorded]:
    """Return the extractions of a file's arrays. Raises InvalidRequestError if none is recorded."""
    origins = document.get("origins")
    modules = document["modules"]
    if origins is None:
        known = {name: array for name, array in modules.items() if array["module"] is not None}
        found = [_extraction(document, known)] if known else []
    else:
        found = [_extraction(origin, {name: modules[name]}) for name, origin in origins.items()]
    if not found:
        raise InvalidRequestError(f"{document['file']}: {document.get('note', '')}")
    return found


def _extraction(origin: Mapping[str, Any], arrays: Mapping[str, Any]) -> Recorded:
    images = tuple(Fingerprint(image["name"], image["sha256"]) for image in origin["images"])
    return Recorded(origin, tuple(_arrays(arrays)), origin["rows"][0], images)


def _arrays(arrays: Mapping[str, Any]) -> Iterator[RecordedArray]:
    for name, array in arrays.items():
        rows: Sequence[int] = array["rows"]
        yield RecordedArray(name, array["module"], tuple(array["shape"]), array["dtype"], *rows)
