"""The server's models and their modules."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from . import tables
from .completion import complete_model_ids, complete_sources
from .naming import filter_models
from .opening import LIBRARY_SOURCE, open_extractor
from .options import (
    AsJSON,
    DeviceName,
    LibrarySource,
    ModelName,
    ModelParameters,
    ModelPath,
    Pretrained,
    Server,
)


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


def show_model(
    model_name: ModelName = "alexnet",
    source: LibrarySource = None,
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    as_json: AsJSON = False,
    server: Server = None,
) -> None:
    """Print a model's modules as a tree: names for --module-name, settings and output shapes."""
    client = shared_client(server)
    extractor = open_extractor(
        client, model_name, source, preferred=LIBRARY_SOURCE, device=device,
        pretrained=pretrained, model_path=model_path, model_parameters=model_parameters,
    )  # fmt: skip
    if as_json:
        typer.echo(tables.as_json(client.modules(extractor.model)))
    else:
        extractor.show_model()
