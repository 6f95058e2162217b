"""What the shell may complete: sources, models, modules and the choices of options.

A shell must not wait, nor show an error: a server that does not answer soon has no completions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import typer

from ..client import Client
from ..errors import ThingsvisionError
from ..rpc.address import SERVER_VARIABLE
from ..values.records import ModelInfo
from .naming import find_model, find_source

_ANSWER_SECONDS = 3.0

Completion = Callable[[typer.Context, str], list[str]]


def complete_values(*values: str) -> Completion:
    """Return a completion that offers some values."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return _filter_values(values, incomplete)

    return complete


def complete_formats(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the formats of files."""
    from ..formats import FORMATS

    return _filter_values(FORMATS, incomplete)


def complete_sources(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the sources of the server's models."""
    return _ask(context, lambda client: {info.source for info in client.models()}, incomplete)


def complete_models(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of the models of `--source`, or `source/name` of all."""
    source = context.params.get("source") or ""

    def names(client: Client) -> Iterable[str]:
        infos = client.models(source)
        return _names(infos, incomplete) if not source else (info.name for info in infos)

    return _ask(context, names, incomplete)


def complete_model_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer `source/name` of all models."""
    return _ask(context, lambda client: _names(client.models(), incomplete), incomplete)


def complete_resident_models(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the models in memory."""
    resident = lambda client: [one.model_id for one in client.residency().models]  # noqa: E731
    return _ask(context, resident, incomplete)


def complete_modules(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the modules of the model that the options before name."""
    name, source = context.params.get("model_name"), context.params.get("source")

    def names(client: Client) -> Iterable[str]:
        if not name:
            return []
        # As extract-features takes a bare name.
        home, bare = find_source(client, name.partition("@")[0], source, preferred="torchvision")
        model = find_model(client, f"{home}/{bare}")
        return [one.name for one in client.modules(model) if one.extractable and one.name]

    return _ask(context, names, incomplete)


def complete_uploads(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the SHA-256 of uploaded files."""
    return _ask(context, lambda client: [one.sha256 for one in client.uploads()], incomplete)


def complete_shareable(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the SHA-256 of uploaded files and PCAs."""
    ask = lambda client: [one.sha256 for one in (*client.uploads(), *client.pcas())]  # noqa: E731
    return _ask(context, ask, incomplete)


def complete_pcas(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of PCAs, or the SHA-256 where they have none."""
    ids = lambda client: [one.name or one.sha256 for one in client.pcas()]  # noqa: E731
    return _ask(context, ids, incomplete)


def _names(infos: Iterable[ModelInfo], incomplete: str) -> Iterable[str]:
    """Return `source/name` of models; bare names if nothing else begins with `incomplete`."""
    listed = list(infos)
    full = [f"{info.source}/{info.name}" for info in listed]
    if any(name.startswith(incomplete) for name in full):
        return full
    return [info.name for info in listed]


def _ask(
    context: typer.Context, ask: Callable[[Client], Iterable[str]], incomplete: str
) -> list[str]:
    try:
        with Client(_server(context), timeout=_ANSWER_SECONDS) as client:
            return _filter_values(ask(client), incomplete)
    except ThingsvisionError:
        return []


def _server(context: Any) -> str | None:
    """Return the address before or after the command, else of the environment."""
    here: Any = context
    while here is not None:
        if server := here.params.get("server"):
            return str(server)
        here = here.parent
    return os.environ.get(SERVER_VARIABLE)


def _filter_values(values: Iterable[str], incomplete: str) -> list[str]:
    return sorted({value for value in values if value.startswith(incomplete)})
