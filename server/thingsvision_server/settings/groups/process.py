"""The options of the server's process: whose it is, how it stops, and where it announces itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ..written_values import Folder


class ProcessOptions(BaseModel):
    """The server's process: whose it is, how it stops, where it announces itself, what it logs."""

    parent: Annotated[
        int,
        Field(
            ge=0,
            description="id of a process that needs the server, which stops when that ends; 0: "
            "none",
        ),
    ] = 0
    parent_folder: Annotated[
        str,
        Field(
            description="folder made for this server, with its log and its socket, which it "
            "deletes when it stops because of --parent"
        ),
    ] = ""
    drain_seconds: Annotated[
        float, Field(ge=0, description="seconds that running calls have to finish after SIGTERM")
    ] = 30.0
    announce_dir: Annotated[
        Folder | None,
        Field(
            description="folder where the servers of a cluster announce themselves, for gateways "
            "and for each other; nobody else may write there; default: none"
        ),
    ] = None
    announce_address: Annotated[
        str | None,
        Field(
            description="HOST or HOST:PORT by which gateways and clients reach this server; "
            "default: the address of --host, or of this machine's name, and the port of "
            "--mtls-port if there is one"
        ),
    ] = None
    lame_duck_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            description="seconds after SIGTERM during which calls are still taken, while gateways "
            "see that the server drains; default: 5 with --announce-dir, else 0",
        ),
    ] = None
    log_format: Annotated[
        Literal["json", "console"],
        Field(description="json: one object per line; console: for people"),
    ] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="lowest level that is logged"),
    ] = "info"
