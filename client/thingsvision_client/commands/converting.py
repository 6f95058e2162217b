"""Files of features in another format, with the names of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidRequestError
from .completion import complete_formats
from .opening import read_lines, say_written
from .options import Overwrite

FeatureFile = Annotated[
    Path, typer.Argument(help="Features: .npy, .npz, .hdf5 or .h5, .mat, .txt, .pt or .parquet.")
]
TargetFormat = Annotated[
    str,
    typer.Option(
        help="npy, npz, hdf5, mat, txt, pt or parquet.",
        metavar="FORMAT",
        autocompletion=complete_formats,
    ),
]
RowNames = Annotated[
    Path | None,
    typer.Option(
        help="File of the names of the rows, one per line, such as file_names.txt; by default "
        "the names in the file or in its metadata, else row_000000, row_000001, ..."
    ),
]


def convert_features(
    file: FeatureFile,
    file_format: TargetFormat,
    out_path: Annotated[Path, typer.Option(help="Folder for the file.")],
    names: RowNames = None,
    overwrite: Overwrite = False,
) -> None:
    """Write features in another format, to features.ENDING in --out-path."""
    from ..formats import BY_ENDING, FEATURES, find_format
    from ..origins.replacing import refuse_or_replace
    from ..utils.storing import read_features, save_features

    form = BY_ENDING.get(file.suffix.lower())
    if file.is_dir():
        raise InvalidRequestError(
            f"{file} is a folder: pass the path of a file in it, such as {FEATURES}.npy."
        )
    if form is None:
        raise InvalidRequestError(
            f"{file} is not a file of features: its ending must be one of {', '.join(BY_ENDING)}."
        )
    target = out_path / f"{FEATURES}.{find_format(file_format).suffix}"
    if target.absolute() == file.absolute():
        raise InvalidRequestError(f"--out-path must be another folder than that of {file}.")
    arrays = read_features(file, form)
    rows = None if names is None else read_lines(names, "names from ")
    features = arrays[FEATURES] if list(arrays) == [FEATURES] else arrays
    with refuse_or_replace(target, features, overwrite=overwrite):
        save_features(features, out_path, file_format, names=rows)
    say_written(target)
