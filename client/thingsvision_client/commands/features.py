"""Features of images and of texts, extracted by the server and written to files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client import Client
from ..errors import InvalidRequestError
from .completion import complete_formats, complete_values
from .groups import (
    LibraryImageOptions,
    LibraryModelOptions,
    ModelOptions,
    PassOptions,
    takes_groups,
)
from .opening import (
    dataset_of,
    extract_options,
    open_extractor,
    read_lines,
    say_written,
    write_names,
)
from .options import (
    AllowMixed,
    BatchSize,
    ModuleName,
    OnError,
    OutPath,
    Overwrite,
    Streams,
    read_streams,
)

if TYPE_CHECKING:
    from ..jobs import Task

FlattenActs = Annotated[
    bool, typer.Option("--flatten-acts", help="Flatten features to images x units.")
]
OutputType = Annotated[
    str,
    typer.Option(
        help="ndarray, or tensor for PyTorch files.",
        metavar="TYPE",
        autocompletion=complete_values("ndarray", "tensor"),
    ),
]
FileFormat = Annotated[
    str | None,
    typer.Option(
        help="npy, npz, hdf5, mat, txt, pt or parquet. By default npy, npz for several "
        "modules, and pt for --output-type tensor.",
        metavar="FORMAT",
        autocompletion=complete_formats,
    ),
]


@takes_groups
def extract_features(
    model: LibraryModelOptions,
    images: LibraryImageOptions,
    forward: PassOptions,
    module_name: ModuleName = ["features.10"],  # noqa: B006 - nobody writes to it
    out_path: OutPath = Path("features"),
    flatten_acts: FlattenActs = False,
    output_type: OutputType = "ndarray",
    file_format: FileFormat = None,
    on_error: OnError = "raise",
    overwrite: Overwrite = False,
    streams: Streams = "1",
    allow_mixed: AllowMixed = False,
) -> None:
    """Extract features of a folder of images, and write them to one file in --out-path.

    Run the same command again to resume an interrupted extraction. A JSON file beside the file
    records where the features came from; `verify` checks it.
    """
    from ..jobs import Task, of_present, read_skipped
    from ..origins import read_origin

    chosen = _file_format(file_format, output_type, len(module_name))
    stream_count = read_streams(streams)
    extractor = open_extractor(model, forward.token_extraction)
    dataset = dataset_of(images, out_path, extractor.get_backend(), overwrite=overwrite)
    task = Task(
        model=extractor.model,
        modules=tuple(module_name),
        images=dataset.queue,
        options=replace(
            extract_options(extractor, images, forward),
            streams=stream_count,
            allow_mixed=allow_mixed,
        ),
        flatten=flatten_acts,
        root=dataset.root,
    )
    choices = {"file_format": chosen, "on_error": on_error, "overwrite": overwrite}
    path = _write_features(extractor.client, task, out_path, choices)
    write_names(dataset, out_path, of_present(read_skipped(read_origin(path))))


def _write_features(client: Client, task: Task, folder: Path, choices: dict[str, Any]) -> Path:
    """Write the features of a task; return the file, and name it if it was not complete."""
    from ..display.progress import progress_bar
    from ..jobs import extract_to_file

    with progress_bar() as progress:
        started_ns = time.time_ns()
        path = extract_to_file(client, task, folder, progress=progress, **choices)
    if path.stat().st_mtime_ns >= started_ns:
        say_written(path)
    return path


def _file_format(file_format: str | None, output_type: str, module_count: int) -> str:
    """Return a format for so many modules. Raises InvalidRequestError before anything is sent."""
    from ..formats import Column, find_format
    from ..jobs import OUTPUT_FORMATS

    if output_type not in OUTPUT_FORMATS:
        valid = ", ".join(OUTPUT_FORMATS)
        raise InvalidRequestError(f"--output-type must be one of {valid}, got {output_type!r}.")
    default = (
        "npz" if output_type == "ndarray" and module_count > 1 else OUTPUT_FORMATS[output_type]
    )
    chosen = file_format or default
    # The server reports the shapes of rows later.
    find_format(chosen).check([Column(f"{n}", (1,), "float32") for n in range(module_count)])
    return chosen


@takes_groups
def extract_texts(
    model: ModelOptions,
    out_path: OutPath,
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.")] = None,
    texts_file: Annotated[
        Path | None, typer.Option(help="File of texts (UTF-8), one per line, instead.")
    ] = None,
    module_name: Annotated[
        str | None, typer.Option(help="Module of the text tower; by default the whole tower.")
    ] = None,
    batch_size: BatchSize = 32,
    overwrite: Overwrite = False,
) -> None:
    """Extract features of texts, and write features.npy and texts.txt to --out-path."""
    from ..origins.replacing import refuse_or_replace
    from ..utils.file_names import write_lines
    from ..utils.storing import save_features

    if (texts_file is None) == (not texts):
        raise InvalidRequestError("Pass texts as arguments, or a file of texts with --texts-file.")
    wanted = texts or [] if texts_file is None else read_lines(texts_file, "texts from ")
    extractor = open_extractor(model)
    features = extractor.extract_text_features(wanted, module_name, batch_size=batch_size)
    with refuse_or_replace(out_path / "features.npy", features, overwrite=overwrite):
        save_features(features, out_path, "npy")
    write_lines(out_path / "texts.txt", wanted)
    say_written(out_path / "features.npy")
