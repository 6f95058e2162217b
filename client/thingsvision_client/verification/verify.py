"""Check a file of features: recompute a sample of its rows as its metadata says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.signatures import check_arguments
from ..calls.wording import quote
from ..client import Client, shared_client
from ..display.progress import open_progress
from ..errors import ImageError, InvalidRequestError
from ..formats import BY_ENDING, FEATURES
from ..images.image import SentImage, hole
from ..images.queue import ImageQueue
from ..origins import differences, file_sha256, fingerprint_of, provenance_fields, read_origin
from .recorded import Recorded, RecordedArray, read_recorded
from .sampling import Rows
from .tally import DifferenceTally
from .verdict import ModuleCheck, Verification, rounding_limit

if TYPE_CHECKING:
    from ..arrays import Array
    from ..display.progress import Progress, ProgressChoice
    from ..rpc.feature_stream import FeatureStream

_MOST_NAMED = 5


@check_arguments
@dataclass(frozen=True)
class Sample:
    """Which images `verify` recomputes: the whole batches of some images drawn at random.

    Args:
        count: Number of images drawn, at least 1.
        seed: The same seed draws the same images.

    Raises:
        InvalidRequestError: A count below 1.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, save_features, verify
        from thingsvision_client.verification.verify import Sample

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=2)
        save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
        print(verify("results/features.npy", sample=Sample(count=2, seed=1)).holds)
        ```

    """

    count: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidRequestError(f"`sample` must have at least 1 image, got {self.count}.")


@check_arguments
def verify(
    path: str | Path,
    *,
    server: str | None = None,
    sample: Sample | None = None,
    image_root: str | Path | None = None,
    progress: ProgressChoice = None,
) -> Verification:
    """Check a file of features: itself, its images, its model, and a recomputed sample of its rows.

    The file and all images are compared with the SHA-256 recorded beside the file. The batches of a
    sample of images are then run again exactly as they were.

    Args:
        path: The file; its metadata is `{path}.json`.
        server: Address, host:port; by default that of `Client()`.
        sample: Which images to recompute; the batches of 8 images by default.
        image_root: Folder of the images, if they moved.
        progress: True for a bar, False for none, or a function that is called with stage, units
            done and total; by default there is a bar in terminals and in Jupyter.

    Returns:
        A verdict per module, what is wrong, and what is worth knowing.

    Raises:
        InvalidRequestError: A file without metadata, or images that no file holds.
        ThingsvisionError: Whatever else the server reports.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, save_features, verify

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
        assert verify("results/features.npy").holds
        ```

    """
    file = Path(path)
    document = read_origin(file)
    extractions = read_recorded(document)
    with open_progress(progress) as report:
        run = _Run(shared_client(server), sample or Sample(), report)
        return _verify(run, file, document, extractions=extractions, image_root=image_root)


def _verify(
    run: _Run,
    file: Path,
    document: Mapping[str, Any],
    extractions: Sequence[Recorded],
    image_root: str | Path | None,
) -> Verification:
    arrays = _arrays(file, document, run.faults)
    root = None if image_root is None else Path(image_root)
    checks = [
        check for recorded in extractions for check in _recompute(run, recorded, arrays, root)
    ]
    unknown = [name for name, array in document["modules"].items() if array["module"] is None]
    run.notes.extend(f"the origin of {name!r} is unknown" for name in unknown)
    return Verification(file, tuple(checks), tuple(run.faults), tuple(run.notes))


@dataclass(frozen=True)
class _Run:
    """What the checks of one file share, and what they find."""

    client: Client
    sample: Sample
    progress: Progress | None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def report(self, stage: str, done: int, count: int | None) -> None:
        if self.progress is not None:
            self.progress(stage, done, count)


# ---------------------------------------------------------------- the file itself


def _map_npy(path: Path) -> dict[str, Array]:
    try:
        return {FEATURES: np.load(path, mmap_mode="r", allow_pickle=False)}
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"Can't read features from {path}: {error}") from error


_IN_FLAT_MEMORY: dict[str, Callable[[Path], dict[str, Array]]] = {"npy": _map_npy}
"""Formats that can be read without all rows in memory."""


def _arrays(path: Path, document: Mapping[str, Any], faults: list[str]) -> dict[str, Array]:
    """Return the arrays that match their metadata, and add faults for the others."""
    read = _reader(path)
    try:
        if file_sha256(path) != document["file_sha256"]:
            faults.append("the file has changed since it was written (its SHA-256 differs)")
        found = read(path)
    except (OSError, InvalidRequestError) as error:
        faults.append(str(error).removesuffix("."))
        return {}
    recorded = {name: tuple(array["shape"]) for name, array in document["modules"].items()}
    if len(recorded) == len(found) == 1:  # formats of one array don't store its name
        found = dict(zip(recorded, found.values(), strict=True))
    for name, shape in recorded.items():
        if name not in found:
            faults.append(f"the file has no {name!r}, only {', '.join(map(repr, found))}")
        elif not _has_shape(found[name], shape):
            faults.append(f"{name!r} must have shape {shape}, got {found[name].shape}")
    return {
        name: found[name]
        for name, shape in recorded.items()
        if name in found and _has_shape(found[name], shape)
    }


def _reader(path: Path) -> Callable[[Path], dict[str, Array]]:
    file_format = BY_ENDING.get(path.suffix)
    if file_format is None:
        raise InvalidRequestError(f"The ending of {path} must be one of {', '.join(BY_ENDING)}.")
    return _IN_FLAT_MEMORY.get(file_format.name, file_format.read)


def _has_shape(array: Array, shape: tuple[int, ...]) -> bool:
    """Compare shapes; table formats don't store dimensions of length 1."""
    return array.shape[:1] == shape[:1] and _long(array.shape) == _long(shape)


def _long(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length > 1]


# ---------------------------------------------------------------- its images, its rows


def _recompute(
    run: _Run, recorded: Recorded, arrays: Mapping[str, Array], root: Path | None
) -> Iterator[ModuleCheck]:
    images = recorded.sent_images(root)
    unusable = _check_images(run, recorded, images)
    facts = recorded.facts
    start, places = recorded.places()
    row_at = dict(zip(places, count(recorded.start)))
    stop = start + len(places) + sum(place >= start for place in recorded.holes)
    rows = Rows(start, stop, facts["batch_size"], facts["image_count"])
    unusable = {places[row - recorded.start] for row in unusable}
    drawn = rows.sample(run.sample.count, run.sample.seed, unusable)
    tallies = {array.name: DifferenceTally() for array in recorded.arrays}
    if drawn:
        again = [
            images[row_at[place] - recorded.start] if place in row_at else hole("", "has no row")
            for place in drawn
        ]
        sent = ImageQueue(again, len(again), cores=recorded.cores.of_places(drawn))
        drawn = [row_at.get(place, -1) for place in drawn]
        with closing(_stream(run, recorded, sent)) as stream:
            _compare_facts(run, recorded, stream)
            _compare_rows(run, _StoredRows(recorded, arrays, tallies), drawn, stream)
    for array in recorded.arrays:
        tally = tallies[array.name]
        yield ModuleCheck(
            name=array.name,
            module=array.module,
            row_count=tally.row_count,
            is_equal=tally.is_equal,
            largest_difference=tally.largest_difference,
            rounding=rounding_limit(facts["precision"], array.dtype),
        )


def _check_images(run: _Run, recorded: Recorded, images: Sequence[SentImage]) -> set[int]:
    """Return the rows whose images changed, which is a fault."""
    missing: list[str] = []
    changed: list[str] = []
    rows = set()
    for row, (was, image) in enumerate(zip(recorded.images, images, strict=True), recorded.start):
        try:
            now = fingerprint_of(image).sha256
        except ImageError:
            missing.append(was.name)
        else:
            if now == was.sha256:
                continue
            changed.append(was.name)
        rows.add(row)
        run.report("reading images", row + 1 - recorded.start, len(images))
    for names, what in ((missing, "can't be read"), (changed, "changed")):
        if names:
            run.faults.append(
                f"{len(names)} of {len(images)} images {what}: {quote(names, _MOST_NAMED)}"
            )
    return rows


def _stream(run: _Run, recorded: Recorded, images: ImageQueue) -> FeatureStream:
    stream = run.client.stream(
        recorded.model,
        images,
        recorded.modules,
        on_error="quiet",
        **vars(recorded.options),
    )
    stream.on_wait = lambda stage: run.report(stage, 0, None)
    return stream


def _compare_facts(run: _Run, recorded: Recorded, stream: FeatureStream) -> None:
    now = stream.provenance.to_dict()
    if recorded.facts["model_sha256"] != now["model_sha256"]:
        old, new = recorded.facts["model_sha256"], now["model_sha256"]
        run.faults.append(f"the weights of {recorded.model} had SHA-256 {old} and have {new} now")
    rest = [key for key in provenance_fields() if key not in ("model", "model_sha256")]
    was = {key: recorded.facts[key] for key in rest if key in recorded.facts}
    run.notes.extend(differences.of_facts(was, {key: now[key] for key in rest}))
    if was.get("hardware") and was["hardware"] != now["hardware"]:
        run.notes.append(f"hardware was {was['hardware']!r} and is {now['hardware']!r} now")


@dataclass(frozen=True)
class _StoredRows:
    """The rows of a file, and how the recomputed ones compare with them."""

    recorded: Recorded
    arrays: Mapping[str, Array]
    tallies: Mapping[str, DifferenceTally]

    def compare(self, array: RecordedArray, rows: Sequence[int], fresh: Array) -> None:
        mine = [place for place, row in enumerate(rows) if array.start <= row < array.stop]
        if array.name in self.arrays and mine:
            at = [rows[place] - array.start for place in mine]
            self.tallies[array.name].add(self.arrays[array.name][at], fresh[mine])


def _compare_rows(
    run: _Run, stored: _StoredRows, drawn: Sequence[int], stream: FeatureStream
) -> None:
    for _, fresh in stream:
        rows = [drawn[place] for place in stream.places]
        for array in stored.recorded.arrays:
            stored.compare(array, rows, fresh[array.module])
        run.report("recomputing", stream.places[-1] + 1, len(drawn))
