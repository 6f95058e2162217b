"""PCAs that the server fits on features of images and stores."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from .completion import complete_pcas
from .groups import ImageOptions, ModelOptions, PassOptions, takes_groups
from .opening import extract_options, images_of, open_extractor
from .options import AsJSON, ModuleName, OnErrorStops, Server, Share

Components = Annotated[
    int,
    typer.Option(
        help="Components per module: at most its number of values, and fewer than the images."
    ),
]


@takes_groups
def fit_pca(
    model: ModelOptions,
    images: ImageOptions,
    module_name: ModuleName,
    components: Components,
    forward: PassOptions,
    name: Annotated[str, typer.Option(help="Your name of the PCA, such as the image set's.")] = "",
    share: Share = False,
    on_error: OnErrorStops = "raise",
) -> None:
    """Fit a PCA of each module on a folder of images, and print its SHA-256.

    The server stores it: with --model-parameters '{"reduction": {"pca": NAME}}', other commands
    return scores instead of features of the same kind.
    """
    from ..display.progress import progress_bar

    extractor = open_extractor(model, forward.token_extraction)
    options = extract_options(extractor, images, forward)
    with progress_bar() as progress:
        fitted = extractor.client.fit_pca(
            extractor.model,
            images_of(images),
            module_name,
            components=components,
            name=name,
            share=share,
            on_error=on_error,
            **options.without_dtype(),
            progress=progress,
        )
    for module, ratios in fitted.explained_variance_ratio.items():
        line = f"{module}: {components} components explain {sum(ratios):.1%} of the variance"
        typer.echo(f"{line} over {fitted.image_count:,} images", err=True)
    typer.echo(fitted.sha256)


def pcas(as_json: AsJSON = False, server: Server = None) -> None:
    """List your PCAs on the server, and those that others share with you."""
    from . import tables

    client = shared_client(server)
    found = client.pcas()
    lines = [tables.as_json(found)] if as_json else tables.pca_lines(client.server, found)
    typer.echo("\n".join(lines))


def delete_pca(
    pca: Annotated[
        str,
        typer.Argument(
            help="SHA-256 as printed by `pcas`, or your name of it.", autocompletion=complete_pcas
        ),
    ],
    server: Server = None,
) -> None:
    """Delete a PCA of yours on the server."""
    typer.echo(f"{shared_client(server).delete_pca(pca):,} bytes freed.")
