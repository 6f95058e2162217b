"""The user's weights and models, uploaded to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..client import shared_client
from .completion import complete_uploads
from .opening import json_object
from .options import AsJSON, Server, Share


def upload(
    file: Annotated[
        Path, typer.Argument(help="Weights, or a complete model (.pt2, .onnx, .keras).")
    ],
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="JSON: how images become inputs of a complete model, such as "
            '\'{"resize_pixels": [256], "crop_pixels": [224]}\'; further keys are mean, std, '
            "interpolation, value_range (0..1, 0..255 or -1..1) and channel_order (RGB or BGR).",
            metavar="JSON",
        ),
    ] = None,
    share: Share = False,
    server: Server = None,
) -> None:
    """Upload a file, and print the name of its model or its weights."""
    client = shared_client(server)
    declared = json_object("--preprocessing", preprocessing) if preprocessing else None
    if declared is not None:
        typer.echo(client.upload_model(file, declared, share=share))
        return
    sha256 = client.upload_weights(file, share=share)
    sent = next(one for one in client.uploads() if one.sha256 == sha256)
    typer.echo(f"own/{sha256}" if sent.is_model else f"sha256:{sha256}")


def uploads(as_json: AsJSON = False, server: Server = None) -> None:
    """List your uploaded files, and those that others share with you."""
    from . import tables

    client = shared_client(server)
    found = client.uploads()
    lines = [tables.as_json(found)] if as_json else tables.upload_lines(client.server, found)
    typer.echo("\n".join(lines))


def delete_upload(
    sha256: Annotated[
        str,
        typer.Argument(
            help="SHA-256 of the file, as `uploads` prints it.", autocompletion=complete_uploads
        ),
    ],
    server: Server = None,
) -> None:
    """Delete an uploaded file of yours that no model in memory uses."""
    typer.echo(f"{shared_client(server).delete_upload(sha256):,} bytes freed.")
