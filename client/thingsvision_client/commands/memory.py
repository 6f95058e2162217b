"""Models in the server's memory: show, load, unload, pin."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from .completion import complete_model_ids, complete_resident_models
from .naming import find_model
from .options import AsJSON, Server

_HELP = (
    "source/name[@weights], as printed by `status`; the source may be left out if no other has a "
    "model of that name."
)
ModelID = Annotated[str, typer.Argument(help=_HELP, autocompletion=complete_model_ids)]
ResidentID = Annotated[str, typer.Argument(help=_HELP, autocompletion=complete_resident_models)]


def status(as_json: AsJSON = False, server: Server = None) -> None:
    """Show the server's devices and the models in memory."""
    from . import tables

    client = shared_client(server)
    found = client.residency()
    lines = [tables.as_json(found)] if as_json else tables.residency_lines(client.server, found)
    typer.echo("\n".join(lines))


def load(model: ModelID, server: Server = None) -> None:
    """Load a model before its first use."""
    client = shared_client(server)
    resident = client.load(find_model(client, model))
    typer.echo(
        f"{resident.model_id} is on {resident.device} with {resident.resident_bytes:,} bytes."
    )


def unload(model: ResidentID, server: Server = None) -> None:
    """Unload a model: its file is read again at the next use, and may be deleted."""
    client = shared_client(server)
    typer.echo(f"{client.unload(find_model(client, model)):,} bytes freed.")


def pin(
    model: ModelID,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it be evicted again.")] = False,
    server: Server = None,
) -> None:
    """Keep a model in memory, whatever else is used; load it if necessary."""
    client = shared_client(server)
    resident = client.pin(find_model(client, model), not unpin)
    typer.echo(f"{resident.model_id} is {'pinned' if resident.pinned else 'not pinned'}.")
