"""The commands `thingsvision-server token new`, `list` and `revoke`."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ..errors import PreconditionError
from .register import CertificateGrant, Grant, Register, TokenGrant
from .scopes import Scope
from .tokens import digest_of, new_token
from .tokens_file import change_register, is_root, read_register

_SCOPES = ", ".join(scope.value for scope in Scope)

app = typer.Typer(
    help="Make, list and revoke the tokens of people who may call the server.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_File = Annotated[
    Path, typer.Option("--tokens", metavar="FILE", help="The tokens file of the server.")
]

_Subject = Annotated[
    str,
    typer.Option(
        metavar="SUBJECT",
        help="Let in who has a client certificate with this subject (CN=ada,O=lab), instead of a "
        "new token.",
    ),
]


@app.command("new")
def make_token(
    tokens: _File,
    name: Annotated[str, typer.Option(help="The person, who owns what the token's calls leave.")],
    scopes: Annotated[str, typer.Option(help=f"What the person may do, of: {_SCOPES}.")],
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; default: never.", min=0)
    ] = None,
    group: Annotated[str, typer.Option(help="A group that the person may share with.")] = "",
    certificate: _Subject = "",
) -> None:
    """Add a token to the file, which is made if it is missing, and print the token: only now."""
    grant = _describe_grant(name, scopes, days, group)
    with change_register(tokens) as content:
        register = content[0]
        if certificate:
            row = CertificateGrant.model_validate(grant | {"subject": certificate})
            content[0] = _replace(register, certificates=(*register.certificates, row))
        else:
            token_id, token = new_token()
            added = grant | {"id": token_id, "sha256": digest_of(token)}
            rows = (*register.tokens, TokenGrant.model_validate(added))
            content[0] = _replace(register, tokens=rows)
    until = "never expires" if days is None else f"expires on {grant['expires']:%Y-%m-%d %H:%M %Z}"
    if certificate:
        typer.echo(f"{name} may use certificates with the subject {certificate}; this {until}.")
    else:
        typer.echo(
            f"The token {token_id} of {name} {until}. It is shown only now; the file has its "
            f"SHA-256: {token}"
        )


def _describe_grant(name: str, scopes: str, days: float | None, group: str) -> dict[str, Any]:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return {
        "name": name,
        "scopes": [one.strip() for one in scopes.split(",")],
        "group": group,
        "created": now,
        "expires": None if days is None else now + timedelta(days=days),
    }


@app.command("list")
def list_tokens(tokens: _File) -> None:
    """List who is let in, without secrets."""
    register = read_register(tokens, any_owner=is_root())
    rows: list[Grant] = [*register.tokens, *register.certificates]
    for row in rows:
        group = f", group {row.group}" if row.group else ""
        scopes = ",".join(scope.value for scope in row.scopes)
        typer.echo(f"{row.credential}: {row.name}{group}, {scopes}, {_state(row)}")


@app.command("revoke")
def revoke_token(
    tokens: _File,
    token_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The token's id, as `list` shows it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Revoke all that this person has.")] = "",
    certificate: Annotated[
        str, typer.Option(metavar="SUBJECT", help="Revoke the certificate with this subject.")
    ] = "",
) -> None:
    """Revoke a token; servers refuse it within seconds, and end its calls within ten."""
    asked = {"id": token_id, "name": name, "subject": certificate}
    wanted = {key: value for key, value in asked.items() if value}
    if len(wanted) != 1:
        raise PreconditionError("give the ID of a token, --name or --certificate: one of them")
    with change_register(tokens) as content:
        register = content[0]
        rows: list[Grant] = [*register.tokens, *register.certificates]
        found = [row for row in rows if wanted.items() <= dict(row).items() and not row.revoked]
        if not found:
            what = " ".join(next(iter(wanted.items())))
            raise PreconditionError(f"nothing that is valid in {tokens} has the {what}")
        content[0] = _revoke(register, found)
    for row in found:
        typer.echo(f"Revoked the {row.credential} of {row.name}.")


def _revoke(register: Register, grants: list[Grant]) -> Register:
    """Return a register in which some grants are revoked now."""
    now = {"revoked": datetime.now(timezone.utc).replace(microsecond=0)}
    return _replace(
        register,
        tokens=tuple(r.model_copy(update=now) if r in grants else r for r in register.tokens),
        certificates=tuple(
            r.model_copy(update=now) if r in grants else r for r in register.certificates
        ),
    )


def _replace(register: Register, **changes: object) -> Register:
    return Register.model_validate(dict(register) | changes)


def _state(row: Grant) -> str:
    if row.revoked:
        return f"revoked on {row.revoked:%Y-%m-%d}"
    if row.expires is None:
        return "valid"
    expired = row.expires <= datetime.now(timezone.utc)
    return f"{'expired' if expired else 'valid until'} {row.expires:%Y-%m-%d %H:%M %Z}"


def main(arguments: list[str]) -> None:
    """Run the command that the arguments name; an error is one sentence on stderr."""
    try:
        app(args=arguments, prog_name="thingsvision-server token")
    except ValidationError as error:
        for one in error.errors(include_url=False):
            # Rules of a whole row say in their words what is wrong; its input would be all fields.
            where = f"{'.'.join(map(str, one['loc']))}: " if one["loc"] else ""
            got = f", got {one['input']!r}" if one["loc"] else ""
            said = one["msg"].removeprefix("Value error, ")
            typer.echo(f"thingsvision-server: {where}{said}{got}", err=True)
        sys.exit(1)
    except (OSError, PreconditionError) as error:
        typer.echo(f"thingsvision-server: {error}", err=True)
        sys.exit(1)
