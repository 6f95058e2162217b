"""Features of images and of texts, from the server into files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import shared_client
from ..errors import InvalidRequestError
from ..options import (
    BatchSize,
    Crop,
    DeviceName,
    ImageRoot,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OutPath,
    Pretrained,
    Resize,
    Server,
    Source,
    TokenExtraction,
    overrides,
)
from .opening import dataset_of, open_extractor


def extract_features(
    model_name: ModelName,
    source: Source,
    image_root: ImageRoot,
    module_name: ModuleName,
    out_path: OutPath,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    token_extraction: TokenExtraction = None,
    resize: Resize = None,
    crop: Crop = None,
    no_crop: NoCrop = False,
    flatten_acts: Annotated[
        bool, typer.Option("--flatten-acts", help="Make features images x units.")
    ] = False,
    file_format: Annotated[
        str | None, typer.Option(help="npy for one module, npz for several (the default).")
    ] = None,
    server: Server = None,
) -> None:
    """Extract features of a folder of images, and write features.npy (or .npz) to --out-path."""
    from ..bar import progress_bar
    from ..utils.data import DataLoader
    from ..utils.storing import check_format, save_features

    file_format = file_format or ("npy" if len(module_name) == 1 else "npz")
    check_format(file_format, len(module_name))
    changes = overrides(resize, crop, no_crop)
    extractor = open_extractor(
        shared_client(server), model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    dataset = dataset_of(image_root, out_path, extractor.get_backend(), changes)
    with progress_bar() as progress:
        features = extractor.extract_features(
            DataLoader(dataset, batch_size, dataset.backend),
            module_names=module_name,
            flatten_acts=flatten_acts,
            progress=progress,
        )
    save_features(_single(features), out_path, file_format)


def extract_texts(
    model_name: ModelName,
    source: Source,
    out_path: OutPath,
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.")] = None,
    texts_file: Annotated[
        Path | None, typer.Option(help="File of texts (UTF-8), one per line, in their place.")
    ] = None,
    module_name: Annotated[
        str | None, typer.Option(help="Module that sees texts; without it the whole text tower.")
    ] = None,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    batch_size: BatchSize = 32,
    server: Server = None,
) -> None:
    """Extract features of texts, and write features.npy and texts.txt to --out-path."""
    from ..utils.data import write_lines
    from ..utils.storing import save_features

    if (texts_file is None) == (not texts):
        raise InvalidRequestError("Give texts as arguments, or a file of them with --texts-file.")
    wanted = texts or [] if texts_file is None else _lines(texts_file)
    extractor = open_extractor(
        shared_client(server), model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
    )  # fmt: skip
    features = extractor.extract_text_features(wanted, module_name, batch_size=batch_size)
    write_lines(out_path / "texts.txt", wanted)
    save_features(features, out_path, "npy")


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read texts from {path}: {error}") from error


def _single(arrays: dict[str, Any]) -> Any:
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays
