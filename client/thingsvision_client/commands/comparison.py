"""RDMs of images, computed by the server and written to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client import shared_client
from .opening import ImagePlace, check_on_error, dataset_of, leave_out, open_extractor, say_written
from .options import (
    BatchSize,
    Crop,
    DeviceName,
    HDF5Key,
    ImageRoot,
    Layout,
    Metric,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OnErrorStops,
    OutPath,
    Pretrained,
    Resize,
    Server,
    Source,
    TokenExtraction,
    overrides,
)

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs

_MOST_PICTURES = 200
"""More could not be told apart on the axes of a page."""


def compute_rdm(
    model_name: ModelName,
    image_root: ImageRoot,
    module_name: ModuleName,
    out_path: OutPath,
    source: Source = None,
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
    method: Metric = "correlation",
    plot: Annotated[
        bool,
        typer.Option("--plot", help="Also draw each RDM, as .png, with pictures of the images."),
    ] = False,
    on_error: OnErrorStops = "raise",
    server: Server = None,
) -> None:
    """Compute the RDM of a folder of images, and write rdm.npy (N x N) to --out-path.

    With several modules, the files are rdm_MODULE.npy. Features stay on the server.
    """
    from ..progress import progress_bar

    check_on_error(on_error)
    client = shared_client(server)
    changes = overrides(resize, crop, no_crop)
    place = ImagePlace(image_root, hdf5_key, layout)
    extractor = open_extractor(
        client, model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    dataset = dataset_of(place, out_path, extractor.get_backend(), changes)
    options = extractor.options
    with progress_bar() as progress:
        result = client.rdm(
            extractor.model,
            dataset.queue(),
            module_name,
            metric=method,
            on_error=on_error,
            **replace(options, batch_size=batch_size, preprocessing=changes).without_dtype(),
            progress=progress,
        )
    leave_out(dataset, result.skipped)
    _save_rdms(result.rdms, out_path)
    if plot:
        _draw_rdms(result, out_path, dataset)


def _save_rdms(rdms: dict[str, Any], folder: Path) -> None:
    import numpy as np

    from ..files import atomic_file

    for module, rdm in rdms.items():
        with atomic_file(folder / f"{_stem(module, rdms)}.npy") as file:
            np.save(file, rdm, allow_pickle=False)
        say_written(folder / f"{_stem(module, rdms)}.npy")


def _draw_rdms(result: RDMs, folder: Path, dataset: Any) -> None:
    """Draw a figure per module, with pictures on the axes if the images are files and few."""
    from ..figures.rdm_grid import plot_rdms
    from ..utils.data import ImageDataset

    has_files = isinstance(dataset, ImageDataset) and len(result.images) <= _MOST_PICTURES
    for module, rdm in result.rdms.items():
        figure = folder / f"{_stem(module, result.rdms)}.png"
        thumbnails = dataset.root if has_files else None
        plot_rdms(figure, replace(result, rdms={module: rdm}), thumbnails=thumbnails)
        say_written(figure)


def _stem(module: str, rdms: dict[str, Any]) -> str:
    """Return the name of a module's files; `rdm` if no other module has any."""
    from ..files import file_stem

    return "rdm" if len(rdms) == 1 else f"rdm_{file_stem(module)}"
