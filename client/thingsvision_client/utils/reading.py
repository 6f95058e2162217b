"""Features from files: whole, split, or in the parts of an extraction to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..calls.arguments import as_path
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..formats import FEATURES, FORMATS, FileFormat
from ..formats.pieces import find_pieces
from ..labels import names_in
from ..origins import Fingerprint, remember
from ..values.provenance import Provenance
from .feature_file import (
    ENDINGS,
    OF_ROWS,
    Found,
    describe_array,
    merge_metadata,
    read_document,
    read_file,
)
from .file_names import FILE_NAMES, read_names
from .loaded import LoadedFeatures
from .parts import read_parts, unfinished_file
from .splitting import join, remember_names

_TARGETS = "targets"


@check_arguments
def load_features(path: str | Path, *, partial: bool = False) -> LoadedFeatures:
    """Read features from files, with names of rows, targets and provenance, as far as known.

    Args:
        path: A file of any format; a folder that `save_features` or `split_features` wrote, or the
            command line, or `extract_features(output_dir=...)`, or THINGSvision; or the folder of
            one module in it.
        partial: Also read the complete rows of an extraction that has not ended.

    Returns:
        The features, whole.

    Raises:
        InvalidRequestError: There are no features, several formats of them, parts are missing, or
            the extraction has not ended.

    Warns:
        UserWarning: Says that a file was changed after it was written, so that its provenance is
            not known, or that there are targets of other rows.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, load_features

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=2)
        extractor.extract_features(batches, "features.10", output_dir="results/by_part")
        loaded = load_features("results/by_part")
        print(loaded.array.shape, loaded.names)
        ```

    """
    place = as_path("path", path)
    if place.is_file():
        return _finish(place, place.parent, *read_file(place))
    if not place.is_dir():
        raise InvalidRequestError(f"There is neither a file nor a folder {str(place)!r}.")
    for reader in (_read_saved, read_parts):
        found = reader(place, partial)
        if found is not None:
            return _finish(place, place, *found)
    raise InvalidRequestError(
        f"There are no features in {place}: no {FEATURES}.* of a known format "
        f"({', '.join(sorted(ENDINGS))}), whole, split or in parts.{unfinished_file(place)}"
    )


def _read_saved(folder: Path, _partial: bool) -> Found | None:
    """Read what `save_features` or `split_features` wrote; None if there is nothing."""
    whole = [folder / f"{FEATURES}{ending}" for ending in ENDINGS]
    found: dict[str, Any] = {path.name: path for path in whole if path.is_file()}
    for file_format in FORMATS.values():
        if pieces := find_pieces(folder, file_format.suffix):
            found[f"{pieces[0].file} ... {pieces[-1].file}"] = (file_format, pieces)
    if len(found) > 1:
        raise InvalidRequestError(
            f"{folder} has features several times: {', '.join(found)}. Pass the path of a file, or "
            "use merge_features with the format of the pieces."
        )
    for one in found.values():
        return read_file(one) if isinstance(one, Path) else _read_pieces(folder, *one)
    return None


def _read_pieces(folder: Path, file_format: FileFormat, pieces: Sequence[Any]) -> Found:
    arrays = join(folder, file_format, pieces)
    described: dict[str, list[dict[str, Any]]] = {name: [] for name in arrays}
    for piece in pieces:
        document = read_document(folder / piece.file)
        for name in arrays if piece.module is None else [piece.module]:
            inner = name if piece.module is None else FEATURES
            described[name].append(describe_array(document, inner) if document else {})
    about = {name: merge_metadata(one) for name, one in described.items()}
    if list(arrays) == [FEATURES] and (module := about[FEATURES].get("module")):
        return {module: arrays[FEATURES]}, {module: about[FEATURES]}
    return arrays, about


def _finish(
    path: Path, folder: Path, arrays: dict[str, Array], described: dict[str, dict[str, Any]]
) -> LoadedFeatures:
    count = len(next(iter(arrays.values())))
    provenances = {}
    for name, about in described.items():
        if "model" in about:
            provenances[name] = Provenance.from_dict(about)
            _remember_origin(arrays[name], name, about)
    return LoadedFeatures(
        features=arrays,
        names=_row_names(folder, arrays, count),
        targets=_targets(folder, count),
        provenances=provenances,
        metadata={name: one for name, one in described.items() if one},
        path=path,
    )


def _remember_origin(array: Array, name: str, about: Mapping[str, Any]) -> None:
    """Let `save_features` write the provenance of the array again."""
    images = tuple(
        Fingerprint(one["name"], one["sha256"], about.get("input", "encoded"))
        for one in about.get("images", ())
    )
    if len(images) != len(array) or about.get("rows", [0])[0] != 0:
        return
    left_out = OF_ROWS - {"servers"} | {"format"}
    facts = {key: value for key, value in about.items() if key not in left_out}
    remember(array, {**facts, "module": about.get("module") or name, "images": images})


def _row_names(folder: Path, arrays: Mapping[str, Array], count: int) -> list[str] | None:
    known = {names_in(array) for array in arrays.values()}
    names = known.pop() if len(known) == 1 else None
    if names is not None:
        return list(names)
    listed = read_names(folder)
    if listed is not None and len(listed) != count:
        warn_caller(
            f"{folder / FILE_NAMES} has {len(listed)} lines, but the features have {count} rows: "
            "the names of the rows are not known."
        )
        return None
    if listed is not None:
        for array in arrays.values():
            remember_names(array, listed)
    return listed


def _targets(folder: Path, count: int) -> Array | None:
    for path in _target_files(folder):
        found = next(iter(ENDINGS[path.suffix].read(path).values()))
        if len(found) == count:
            return found.reshape(count, -1) if found.ndim != 2 else found
        warn_caller(f"{path} has {len(found)} rows, but the features have {count}: it is not read.")
    return None


def _target_files(folder: Path) -> Iterator[Path]:
    files = (folder / f"{_TARGETS}{ending}" for ending in ENDINGS)
    return (path for path in files if path.is_file())
