"""The server's models and their modules."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..client import shared_client
from . import tables
from .completion import complete_model_ids, complete_sources
from .groups import LibraryModelOptions, takes_groups
from .naming import filter_models
from .opening import open_extractor
from .options import AsJSON, Server


def models(
    name: Annotated[
        str,
        typer.Argument(
            help="Only names that contain this, or that match a pattern such as 'resnet*'; "
            "timm/resnet asks one source.",
            metavar="[TEXT]",
            autocompletion=complete_model_ids,
        ),
    ] = "",
    source: Annotated[
        str, typer.Option(help="Only models of this source.", autocompletion=complete_sources)
    ] = "",
    as_json: AsJSON = False,
    server: Server = None,
) -> None:
    """List the models that the server can run, and their pretrained weights."""
    found = filter_models(shared_client(server), name, source)
    lines = [tables.as_json(found)] if as_json else tables.model_lines(found)
    typer.echo("\n".join(lines))


@takes_groups
def show_model(
    model: LibraryModelOptions,
    named: Annotated[
        str | None,
        typer.Argument(
            help="The model, instead of --model-name.",
            metavar="[MODEL]",
            autocompletion=complete_model_ids,
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Print a model's modules as a tree: names for --module-name, settings and output shapes."""
    if named is not None:
        model = replace(model, model_name=named)
    extractor = open_extractor(model)
    if as_json:
        typer.echo(tables.as_json(extractor.client.modules(extractor.model)))
    else:
        extractor.show_model()
