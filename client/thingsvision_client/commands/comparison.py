"""RDMs of images, computed by the server and written to files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..analysis.rdm_folder import RDMFolder
from .groups import ImageOptions, ModelOptions, PassOptions, takes_groups
from .opening import (
    dataset_of,
    extract_options,
    open_extractor,
    say_written,
    write_names,
)
from .options import Metric, ModuleName, OnErrorStops, OutPath, Overwrite

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs

_MOST_PICTURES = 200
"""More could not be told apart on the axes of a page."""


Plot = Annotated[
    bool, typer.Option("--plot", help="Also draw each RDM, as .png, with pictures of the images.")
]


@takes_groups
def compute_rdm(
    model: ModelOptions,
    images: ImageOptions,
    module_name: ModuleName,
    out_path: OutPath,
    forward: PassOptions,
    method: Metric = "correlation",
    plot: Plot = False,
    on_error: OnErrorStops = "raise",
    overwrite: Overwrite = False,
) -> None:
    """Compute the RDM of a folder of images, and write rdm.npy (N x N) to --out-path.

    With several modules, the files are rdm_MODULE.npy. Beside each is a JSON file that records
    where it came from. Features stay on the server.
    """
    from ..analysis.request import ModelRequest, request_rdms, stimuli_of
    from ..display.progress import progress_bar

    extractor = open_extractor(model, forward.token_extraction)
    dataset = dataset_of(images, out_path, extractor.get_backend(), overwrite=overwrite)
    target = RDMFolder(out_path, module_name, method, overwrite=overwrite)
    target.check_before(extractor.model, dataset.names)
    options = extract_options(extractor, images, forward).without_dtype()
    asked = ModelRequest(extractor.model, extractor.client)
    with progress_bar() as progress:
        options |= {"dtype": "float32", "on_error": on_error, "progress": progress}
        rdms, origin = request_rdms(
            stimuli_of(dataset), asked, module_name, metric=method, options=options
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
