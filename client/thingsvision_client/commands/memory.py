"""Models in the server's memory: show, load, unload, pin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from typing import Annotated

import typer

from ..client import Client, shared_client
from ..display.live import show_live
from ..rpc.cluster import ALL
from ..values.records import ResidentModel
from .completion import complete_model_ids, complete_resident_models
from .naming import find_model
from .options import AsJSON, Server

_HELP = (
    "source/name[@weights], as printed by `status`; the source may be left out if no other has a "
    "model of that name."
)
ModelID = Annotated[str, typer.Argument(help=_HELP, autocompletion=complete_model_ids)]
ResidentID = Annotated[str, typer.Argument(help=_HELP, autocompletion=complete_resident_models)]


On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ADDR|all",
        help="The server of a cluster that is meant, as `status` shows it, or all of them; by "
        "default the server that the gateway chooses for the model.",
    ),
]
_Watch = Annotated[
    bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C or --count.")
]
_Seconds = Annotated[
    float, typer.Option("--seconds", min=0.1, help="Seconds between two views of --watch.")
]
_Count = Annotated[
    int, typer.Option("--count", min=0, help="Views of --watch after which it ends; 0: none.")
]


def status(
    as_json: AsJSON = False,
    watch: _Watch = False,
    seconds: _Seconds = 1.0,
    count: _Count = 0,
    server: Server = None,
) -> None:
    """Show the devices of a server or a cluster, what they do, and the models in memory."""
    from . import tables

    client = shared_client(server)
    if watch:
        with suppress(KeyboardInterrupt):
            show_live(_views(client, as_json=as_json, seconds=seconds, count=count))
        return
    found = client.residency()
    lines = [tables.as_json(found)] if as_json else tables.residency_lines(client.server, found)
    typer.echo("\n".join(lines))


def _views(client: Client, *, as_json: bool, seconds: float, count: int) -> Iterator[str]:
    """Yield what the server does, every so many seconds; rates are since the view before."""
    from . import tables

    before, asked_at = client.residency(), time.monotonic()
    for _ in range(count) if count else repeat(None):
        time.sleep(seconds)
        found, now = client.residency(), time.monotonic()
        if as_json:
            yield tables.as_json(found)
        else:
            rates = tables.rate_lines(before, found, now - asked_at)
            yield "\n".join([*tables.residency_lines(client.server, found), "", *rates])
        before, asked_at = found, now


def load(model: ModelID, on: On = None, server: Server = None) -> None:
    """Load a model before its first use."""
    client = shared_client(server)
    key = find_model(client, model)
    told: set[str] = set()

    def on_stage(stage: str, _seconds: float) -> None:
        reasons = [one.reason for one in client.residency().waiting] if stage == "waiting" else []
        for reason in reasons:
            if reason not in told:
                typer.echo(f"waiting for memory: {reason}", err=True)
        told.update(reasons)

    resident = client.load(key, on_stage, on=on)
    typer.echo(
        f"{resident.model_id} is on {resident.device}{_place(resident, on)} with "
        f"{resident.resident_bytes:,} bytes."
    )


def unload(model: ResidentID, on: On = None, server: Server = None) -> None:
    """Unload a model: its file is read again at the next use, and may be deleted."""
    client = shared_client(server)
    typer.echo(f"{client.unload(find_model(client, model), on=on):,} bytes freed.")


def pin(
    model: ModelID,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it be evicted again.")] = False,
    on: On = None,
    server: Server = None,
) -> None:
    """Keep a model in memory, whatever else is used; load it if necessary."""
    client = shared_client(server)
    resident = client.pin(find_model(client, model), not unpin, on=on)
    state = "pinned" if resident.pinned else "not pinned"
    typer.echo(f"{resident.model_id} is {state}{_place(resident, on)}.")


def _place(resident: ResidentModel, on: str | None) -> str:
    """Return where a model is, for the end of a sentence."""
    if on == ALL:
        return " of every server"
    return f" of {resident.server}" if resident.server else ""
