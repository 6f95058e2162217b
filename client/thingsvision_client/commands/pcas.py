"""PCAs that the server fits on features of images and stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..client import shared_client
from .completion import complete_pcas
from .opening import ImagePlace, check_on_error, images_of, open_extractor
from .options import (
    AsJSON,
    BatchSize,
    Crop,
    DeviceName,
    HDF5Key,
    ImageRoot,
    Layout,
    ModelName,
    ModelParameters,
    ModelPath,
    ModuleName,
    NoCrop,
    OnErrorStops,
    Pretrained,
    Resize,
    Server,
    Source,
    TokenExtraction,
    overrides,
)


def fit_pca(
    model_name: ModelName,
    image_root: ImageRoot,
    module_name: ModuleName,
    components: Annotated[
        int,
        typer.Option(
            help="Components per module: at most its number of values, and fewer than the images."
        ),
    ],
    source: Source = None,
    name: Annotated[str, typer.Option(help="Name of the PCA, such as the image set's.")] = "",
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
    on_error: OnErrorStops = "raise",
    server: Server = None,
) -> None:
    """Fit a PCA of each module on a folder of images, and print its SHA-256.

    The server stores it: with --model-parameters '{"reduction": {"pca": NAME}}', other commands
    return scores instead of features of the same kind.
    """
    from ..display.progress import progress_bar

    check_on_error(on_error)
    client = shared_client(server)
    extractor = open_extractor(
        client, model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
        token_extraction=token_extraction,
    )  # fmt: skip
    options = extractor.options
    changes = overrides(resize, crop, no_crop)
    place = ImagePlace(image_root, hdf5_key, layout)
    with progress_bar() as progress:
        fitted = client.fit_pca(
            extractor.model,
            images_of(place),
            module_name,
            components=components,
            name=name,
            on_error=on_error,
            **replace(options, batch_size=batch_size, preprocessing=changes).without_dtype(),
            progress=progress,
        )
    for module, ratios in fitted.explained_variance_ratio.items():
        line = f"{module}: {components} components explain {sum(ratios):.1%} of the variance"
        typer.echo(f"{line} over {fitted.image_count:,} images", err=True)
    typer.echo(fitted.sha256)


def pcas(as_json: AsJSON = False, server: Server = None) -> None:
    """List the PCAs on the server."""
    from . import tables

    client = shared_client(server)
    found = client.pcas()
    lines = [tables.as_json(found)] if as_json else tables.pca_lines(client.server, found)
    typer.echo("\n".join(lines))


def delete_pca(
    pca: Annotated[
        str,
        typer.Argument(
            help="SHA-256 as printed by `pcas`, or a name.", autocompletion=complete_pcas
        ),
    ],
    server: Server = None,
) -> None:
    """Delete a PCA on the server."""
    typer.echo(f"{shared_client(server).delete_pca(pca):,} bytes freed.")
