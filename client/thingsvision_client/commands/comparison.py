"""RDMs of images, computed by the server and written to files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..analysis.rdm_folder import RDMFolder
from ..client import shared_client
from .opening import (
    ImagePlace,
    check_on_error,
    dataset_of,
    open_extractor,
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
    Metric,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OnErrorStops,
    OutPath,
    Overwrite,
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
    overwrite: Overwrite = False,
    server: Server = None,
) -> None:
    """Compute the RDM of a folder of images, and write rdm.npy (N x N) to --out-path.

    With several modules, the files are rdm_MODULE.npy. Beside each is a JSON file that records
    where it came from. Features stay on the server.
    """
    from ..analysis.request import ModelRequest, request_rdms, stimuli_of
    from ..display.progress import progress_bar

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
    target = RDMFolder(out_path, module_name, method, overwrite=overwrite)
    target.check_before(extractor.model, dataset.names)
    asked = replace(extractor.options, batch_size=batch_size, preprocessing=changes)
    with progress_bar() as progress:
        rdms, origin = request_rdms(
            stimuli_of(dataset),
            ModelRequest(extractor.model, client),
            module_name,
            metric=method,
            options={
                **asked.without_dtype(),
                "dtype": "float32",
                "on_error": on_error,
                "progress": progress,
            },
        )
    draw = partial(_draw_rdm, rdms, dataset) if plot else None
    written = target.write(rdms.rdms, origin, draw=draw)
    write_names(dataset, out_path, rdms.skipped)
    for path in written:
        say_written(path)


def _draw_rdm(result: RDMs, dataset: Any, module: str, path: Path) -> None:
    """Draw a module's RDM, with pictures on the axes if the images are files and few."""
    from ..figures.rdm_grid import plot_rdms
    from ..utils.data import ImageDataset

    has_files = isinstance(dataset, ImageDataset) and len(result.images) <= _MOST_PICTURES
    shown = replace(result, rdms={module: result.rdms[module]})
    plot_rdms(path, shown, thumbnails=dataset.root if has_files else None, overwrite=True)
