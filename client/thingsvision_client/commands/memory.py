"""Models in the server's memory: show, load, unload, pin."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from .options import Server

ModelID = Annotated[str, typer.Argument(help="source/name[@weights], as printed by `status`.")]


def status(server: Server = None) -> None:
    """Show the server's devices and the models in memory."""
    from .tables import print_residency

    client = shared_client(server)
    print_residency(client.server, client.residency())


def load(model: ModelID, server: Server = None) -> None:
    """Load a model before its first use."""
    resident = shared_client(server).load(model)
    typer.echo(
        f"{resident.model_id} is on {resident.device} with {resident.resident_bytes:,} bytes."
    )


def unload(model: ModelID, server: Server = None) -> None:
    """Unload a model: its file is read again at the next use, and may be deleted."""
    typer.echo(f"{shared_client(server).unload(model):,} bytes freed.")


def pin(
    model: ModelID,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it be evicted again.")] = False,
    server: Server = None,
) -> None:
    """Keep a model in memory, whatever else is used; load it if necessary."""
    resident = shared_client(server).pin(model, not unpin)
    typer.echo(f"{resident.model_id} is {'pinned' if resident.pinned else 'not pinned'}.")
