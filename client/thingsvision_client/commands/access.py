"""The options of who calls and whom to trust, which every command takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidRequestError
from ..rpc.credentials import (
    TOKEN_FILE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    Credentials,
    set_credentials_everywhere,
)
from ..rpc.tls_files import TLSFiles

TokenFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help=f"File with your token (chmod 600); else {TOKEN_VARIABLE} or {TOKEN_FILE} has it. "
        "A token is never an argument, which others on this machine could read.",
    ),
]
CA = Annotated[
    str | None,
    typer.Option(
        "--ca", metavar="FILE", help="Authority that signed the server's certificate (PEM)."
    ),
]
Cert = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Your certificate (PEM), if the server asks for one."),
]
Key = Annotated[str | None, typer.Option(metavar="FILE", help="The private key of --cert (PEM).")]

_NAMES = ("token_file", "ca", "cert", "key")

_given: dict[str, str] = {}


def take_access_options(args: list[str]) -> dict[str, str]:
    """Take these options, as `--ca FILE` or `--ca=FILE`, out of a command's arguments."""
    found = {}
    end = args.index("--") if "--" in args else len(args)
    for name in _NAMES:
        option = f"--{name.replace('_', '-')}"
        for place in reversed(range(end)):
            if args[place].startswith(f"{option}="):
                found[name] = args.pop(place).partition("=")[2]
            elif args[place] == option:
                if place + 1 >= end:
                    raise InvalidRequestError(f"{option} needs the name of a file.")
                found[name] = args[place + 1]
                del args[place : place + 2]
            else:
                continue
            end = args.index("--") if "--" in args else len(args)
            break
    return found


def identify(
    token_file: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> None:
    """Have all calls of this process show that token and certificate, and trust that authority."""
    given = {"ca": ca, "cert": cert, "key": key}
    _given.update({name: str(Path(file).expanduser()) for name, file in given.items() if file})
    if token_file:
        os.environ[TOKEN_FILE_VARIABLE] = token_file
        os.environ.pop(TOKEN_VARIABLE, None)
    if _given:
        set_credentials_everywhere(Credentials(None, TLSFiles(**_given)))
