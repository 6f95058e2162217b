"""Who may use what people left on the server, and whose it is."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from .completion import complete_shareable
from .options import Server

What = Annotated[
    str,
    typer.Argument(
        metavar="SHA256",
        help="SHA-256 of an upload or a PCA, as `uploads` and `pcas` print it; also own/SHA256 and "
        "sha256:SHA256.",
        autocompletion=complete_shareable,
    ),
]


def share(what: What, server: Server = None) -> None:
    """Share an upload or a PCA of yours with your group, or, without one, with everybody."""
    typer.echo(f"{shared_client(server).share(what)}.")


def unshare(what: What, server: Server = None) -> None:
    """Stop sharing an upload or a PCA of yours."""
    typer.echo(f"{shared_client(server).unshare(what)}.")


def move_owner(
    old: Annotated[str, typer.Argument(help="Who leaves: the name in the server's tokens file.")],
    new: Annotated[str, typer.Argument(help="Whose it all is from now on.")],
    over_quota: Annotated[
        bool, typer.Option("--over-quota", help="Give it also if it exceeds what NEW may have.")
    ] = False,
    server: Server = None,
) -> None:
    """Give all that a person left on the server to another (needs the scope `admin`)."""
    moved = shared_client(server).move_owner(old, new, over_quota=over_quota)
    counts = ", ".join(f"{count:,} {kind}{'s'[: count > 1]}" for kind, count in moved.items())
    typer.echo(f"What was {old}'s is {new}'s: {counts}." if moved else f"Nothing was {old}'s.")
