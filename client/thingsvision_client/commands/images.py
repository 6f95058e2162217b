"""Images that the server has cached."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from .options import AsJSON, Server


def cached_images(as_json: AsJSON = False, server: Server = None) -> None:
    """List the images that the server has cached for you, the least recently used first."""
    from . import tables

    client = shared_client(server)
    found = client.cached_images()
    lines = [tables.as_json(found)] if as_json else tables.image_lines(client.server, found)
    typer.echo("\n".join(lines))


def delete_cached_images(
    sha256: Annotated[
        list[str] | None,
        typer.Argument(help="SHA-256 of images, as `cached-images` prints them."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all images of yours.")] = False,
    owner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For an admin: delete all images of this person, or of everybody (*).",
        ),
    ] = None,
    server: Server = None,
) -> None:
    """Delete images of yours from the server's cache; later calls send them again."""
    if sum([bool(sha256), everything, owner is not None]) != 1:
        raise typer.BadParameter("give SHA-256 of images, --all or --owner: one of the three")
    typer.echo(str(shared_client(server).delete_cached_images(sha256 or None, owner=owner)))
