"""Check that a file of features still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Server


def verify(
    file: Annotated[Path, typer.Argument(help="File of features, with its JSON file beside it.")],
    sample: Annotated[
        int, typer.Option(min=1, help="Number of images to recompute, drawn at random.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Another seed draws other images.")] = 0,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder of the images, if they moved.")
    ] = None,
    server: Server = None,
) -> None:
    """Check a file of features: itself, its images, its model, and a recomputed sample of its rows.

    The exit code is 0 if the file passes, otherwise 1.
    """
    from ..display.progress import progress_bar
    from ..verification.verify import Sample
    from ..verification.verify import verify as check

    with progress_bar() as progress:
        found = check(
            file, server=server, sample=Sample(sample, seed), image_root=image_root,
            progress=progress,
        )  # fmt: skip
    typer.echo("\n".join(found.lines()))
    if not found.holds:
        raise typer.Exit(1)
