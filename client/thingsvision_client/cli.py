"""The command line `thingsvision-client`: its commands, and how errors are printed."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .calls.arguments import expand_home
from .commands import (
    analysis,
    citing,
    comparison,
    converting,
    doctor,
    features,
    files,
    images,
    listing,
    memory,
    pcas,
    sharing,
    verification,
)
from .commands.access import CA, Cert, Key, TokenFile, identify, take_access_options
from .commands.options import NoProxy
from .commands.sentences import in_shell
from .errors import ThingsvisionError
from .rpc.address import SERVER_VARIABLE, set_default_address
from .rpc.proxies import leave_out_proxies
from .values.version import client_version

app = typer.Typer(
    help="Features and RDMs of vision models, computed by a THINGSvision server. Set its address "
    f"with --server host:port or the environment variable {SERVER_VARIABLE}; "
    "`thingsvision-server` starts one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Command(TyperCommand):
    """A command that takes `--no-proxy` and the options of access behind its name as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take these out of the arguments before the command's own options are read."""
        own = args[: args.index("--")] if "--" in args else args
        if "--no-proxy" in own:
            args.remove("--no-proxy")
            leave_out_proxies()
        identify(**take_access_options(args))
        return super().parse_args(ctx, args)


for _command in (
    listing.models,
    listing.show_model,
    features.extract_features,
    verification.verify,
    citing.methods_text,
    comparison.compute_rdm,
    analysis.rsa,
    analysis.plot_rdms,
    features.extract_texts,
    converting.convert_features,
    pcas.fit_pca,
    pcas.pcas,
    pcas.delete_pca,
    images.cached_images,
    images.delete_cached_images,
    doctor.doctor,
    memory.status,
    memory.load,
    memory.unload,
    memory.pin,
    files.upload,
    files.uploads,
    files.delete_upload,
    sharing.share,
    sharing.unshare,
    sharing.move_owner,
):
    app.command(cls=_Command)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thingsvision-client {client_version()}")
        raise typer.Exit


@app.callback()
def _set_options(
    server: Annotated[
        str | None,
        typer.Option(
            help=f"Address of the server, host:port, of every command; else {SERVER_VARIABLE} "
            "names it.",
            metavar="ADDR",
        ),
    ] = None,
    no_proxy: NoProxy = False,
    token_file: TokenFile = None,
    ca: CA = None,
    cert: Cert = None,
    key: Key = None,
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", "-v", help="Show the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Set the server that a command asks unless it is given another."""
    if server is not None:
        set_default_address(server)
    if no_proxy:
        leave_out_proxies()
    identify(token_file, ca, cert, key)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"Warning: {in_shell(str(message))}", err=True)


def main() -> None:
    """Run the command line; an error is one sentence on stderr and exit status 1."""
    warnings.showwarning = _print_warning
    try:
        app(args=[_expand(argument) for argument in sys.argv[1:]])
    except ThingsvisionError as error:
        typer.echo(f"Error: {in_shell(str(error))}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"Error: {_describe(error)}", err=True)
        sys.exit(1)


def _expand(argument: str) -> str:
    """Return an argument such as `--out-path=~/results` with the home, which shells leave to us."""
    option, equals, value = argument.partition("=")
    is_option = argument.startswith("-") and equals
    return f"{option}={expand_home(value)}" if is_option else str(expand_home(argument))


def _describe(error: OSError) -> str:
    """Return the system's message about a file as a sentence."""
    if error.filename is None:
        return f"{error.strerror or error}."
    return f"{str(error.filename)!r} can't be used: {error.strerror or error}."
