"""Features of images and of texts, extracted by the server and written to files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..client import shared_client
from ..errors import InvalidRequestError
from .completion import complete_formats, complete_values
from .opening import (
    LIBRARY_SOURCE,
    ImagePlace,
    check_on_error,
    dataset_of,
    open_extractor,
    read_lines,
    say_written,
    write_names,
)
from .options import (
    BatchSize,
    Crop,
    DeviceName,
    HDF5Key,
    ImageRoot,
    Layout,
    LibrarySource,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OnError,
    OutPath,
    Overwrite,
    Pretrained,
    Resize,
    Server,
    Source,
    TokenExtraction,
    overrides,
)


def extract_features(
    model_name: ModelName = "alexnet",
    source: LibrarySource = None,
    image_root: ImageRoot = Path("images"),
    module_name: ModuleName = ["features.10"],  # noqa: B006 - nobody writes to it
    out_path: OutPath = Path("features"),
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    token_extraction: TokenExtraction = None,
    resize: Resize = None,
    crop: Crop = None,
    no_crop: NoCrop = False,
    hdf5_key: HDF5Key = None,
    layout: Layout = None,
    flatten_acts: Annotated[
        bool, typer.Option("--flatten-acts", help="Flatten features to images x units.")
    ] = False,
    output_type: Annotated[
        str,
        typer.Option(
            help="ndarray, or tensor for PyTorch files.",
            metavar="TYPE",
            autocompletion=complete_values("ndarray", "tensor"),
        ),
    ] = "ndarray",
    file_format: Annotated[
        str | None,
        typer.Option(
            help="npy, npz, hdf5, mat, txt, pt or parquet. By default npy, npz for several "
            "modules, and pt for --output-type tensor.",
            metavar="FORMAT",
            autocompletion=complete_formats,
        ),
    ] = None,
    on_error: OnError = "raise",
    overwrite: Overwrite = False,
    server: Server = None,
) -> None:
    """Extract features of a folder of images, and write them to one file in --out-path.

    Run the same command again to resume an interrupted extraction. A JSON file beside the file
    records where the features came from; `verify` checks it.
    """
    from ..display.progress import progress_bar
    from ..jobs import Task, extract_to_file, of_present, skipped_in
    from ..origins import read_origin

    check_on_error(on_error)
    chosen = _file_format(file_format, output_type, len(module_name))
    changes = overrides(resize, crop, no_crop)
    place = ImagePlace(image_root, hdf5_key, layout)
    client = shared_client(server)
    extractor = open_extractor(
        client, model_name, source, preferred=LIBRARY_SOURCE, device=device,
        pretrained=pretrained, model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    dataset = dataset_of(place, out_path, extractor.get_backend(), changes)
    task = Task(
        model=extractor.model,
        modules=tuple(module_name),
        images=dataset.queue,
        options=replace(extractor.options, batch_size=batch_size, preprocessing=changes),
        flatten=flatten_acts,
        root=dataset.root,
    )
    with progress_bar() as progress:
        started_ns = time.time_ns()
        path = extract_to_file(
            client,
            task,
            out_path,
            file_format=chosen,
            on_error=on_error,
            overwrite=overwrite,
            progress=progress,
        )
    if path.stat().st_mtime_ns >= started_ns:  # it was not complete before
        say_written(path)
    write_names(dataset, out_path, of_present(skipped_in(read_origin(path))))


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


def extract_texts(
    model_name: ModelName,
    out_path: OutPath,
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.")] = None,
    texts_file: Annotated[
        Path | None, typer.Option(help="File of texts (UTF-8), one per line, instead.")
    ] = None,
    source: Source = None,
    module_name: Annotated[
        str | None, typer.Option(help="Module of the text tower; by default the whole tower.")
    ] = None,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    overwrite: Overwrite = False,
    server: Server = None,
) -> None:
    """Extract features of texts, and write features.npy and texts.txt to --out-path."""
    from ..origins.replacing import refuse_or_replace
    from ..utils.file_names import write_lines
    from ..utils.storing import save_features

    if (texts_file is None) == (not texts):
        raise InvalidRequestError("Pass texts as arguments, or a file of texts with --texts-file.")
    wanted = texts or [] if texts_file is None else read_lines(texts_file, "texts from ")
    extractor = open_extractor(
        shared_client(server), model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
    )  # fmt: skip
    features = extractor.extract_text_features(wanted, module_name, batch_size=batch_size)
    with refuse_or_replace(out_path / "features.npy", features, overwrite=overwrite):
        save_features(features, out_path, "npy")
    write_lines(out_path / "texts.txt", wanted)
    say_written(out_path / "features.npy")
