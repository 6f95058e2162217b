"""Whether a file of features still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Server


def verify(
    file: Annotated[Path, typer.Argument(help="A file of features, with its JSON file beside it.")],
    sample: Annotated[
        int, typer.Option(min=1, help="Number of images, drawn by chance, to recompute.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Another seed draws other images.")] = 0,
    image_root: Annotated[
        Path | None, typer.Option(help="Where the images lie, if not where they lay.")
    ] = None,
    server: Server = None,
) -> None:
    """Check a file of features: itself, its images, its model, and a sample of it recomputed.

    The exit code is 0 where it holds, else 1.
    """
    from ..progress import progress_bar
    from ..verification.verify import Sample
    from ..verification.verify import verify as verified

    with progress_bar() as progress:
        found = verified(
            file, server=server, sample=Sample(sample, seed), image_root=image_root,
            progress=progress,
        )  # fmt: skip
    typer.echo("\n".join(found.lines()))
    if not found.holds:
        raise typer.Exit(1)
