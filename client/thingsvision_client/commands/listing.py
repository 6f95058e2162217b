"""The server's models and their modules."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import shared_client
from ..errors import InvalidRequestError
from .opening import open_extractor
from .options import DeviceName, ModelName, ModelParameters, ModelPath, Pretrained, Server, Source


def models(
    name_glob: Annotated[str, typer.Argument(help="Only names that match, e.g. 'resnet*'.")] = "",
    source: Annotated[str, typer.Option(help="Only models of this source.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the preprocessing of all weights.")
    ] = False,
    server: Server = None,
) -> None:
    """List the models that the server can run, and their pretrained weights."""
    from .tables import model_lines, models_json

    found = shared_client(server).models(source, name_glob)
    if not found:
        raise InvalidRequestError(
            "The server has no model that matches: run `models` without a filter to list all."
        )
    typer.echo(models_json(found) if as_json else "\n".join(model_lines(found)))


def show_model(
    model_name: ModelName = "alexnet",
    source: Source = "torchvision",
    pretrained: Pretrained = True,
    device: DeviceName = None,
    model_path: ModelPath = None,
    model_parameters: ModelParameters = None,
    server: Server = None,
) -> None:
    """Print a model's modules as a tree: names for --module-name, settings and output shapes."""
    client = shared_client(server)
    open_extractor(
        client, model_name, source, device=device, pretrained=pretrained,
        model_path=model_path, model_parameters=model_parameters,
    ).show_model()  # fmt: skip
