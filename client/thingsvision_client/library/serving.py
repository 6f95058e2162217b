"""Finds the model that `get_extractor`'s arguments name on a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..calls.arguments import as_text
from ..client import Client, shared_client
from ..errors import InvalidRequestError
from ..values.model import Model
from ..values.options import ExtractOptions
from ..values.records import ModelInfo
from .devices import check_device
from .listing import find_listing
from .parameters import options_of, qualified_model_name, weights_of
from .request import Choices, ServedModel
from .spellings import complete_parameters, current_name, current_parameters, current_source
from .untrained import preprocessing_without_weights


def find_served_model(source: str, choices: Choices, server: str | None) -> ServedModel:
    """Return the model of a source that the arguments name, once the server has its weights.

    Raises ThingsvisionError.
    """
    choices = replace(choices, model_parameters=_as_parameters(choices.model_parameters))
    if choices.share and choices.model_path is None:
        raise InvalidRequestError(
            "`share` must be left out without `model_path`, got True: only a file that you send is "
            "yours to share."
        )
    model, parameters = _name_model(source, choices)
    options = options_of(parameters)
    client = shared_client(server)
    info = find_listing(client, model)
    check_device(client, choices.device)
    if choices.model_path is not None:
        model = replace(model, weights=_upload(client, choices, parameters.get("part")))
    if not choices.pretrained:
        options = _without_weights(options, client, model, info)
    # What a server runs without listing it are checkpoints fetched by name: PyTorch's.
    backend = info.backend if info and info.backend else "pt"
    return ServedModel(client, model, backend, options, choices=choices)


def _as_parameters(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidRequestError(
            f"`model_parameters` must be a mapping, such as {{'seed': 1}}, got {given!r}."
        )
    return current_parameters(given)


def _name_model(source: str, choices: Choices) -> tuple[Model, dict[str, Any]]:
    """Return the model, with the tag or seed of its weights, and all of its parameters."""
    own_file, pretrained = choices.model_path is not None, choices.pretrained
    called = as_text("model_name", choices.model_name)
    parameters = complete_parameters(
        called, choices.model_parameters, needs_weights=pretrained and not own_file
    )
    weights = weights_of(parameters, pretrained=pretrained, own_file=own_file)
    name = qualified_model_name(current_name(called), parameters)
    return Model(current_source(as_text("source", source)), name, weights), parameters


def _upload(client: Client, choices: Choices, part: str | None) -> str:
    """Upload a file of weights, and return `Model.weights` of it, or of a part of it."""
    model_path = choices.model_path
    if "://" in str(model_path):
        raise InvalidRequestError(
            f"`model_path` must be a file, got the URL {str(model_path)!r}: download it first."
        )
    weights = f"sha256:{client.upload_weights(model_path, share=choices.share)}"
    return weights if part is None else f"{weights}:{part}"


def _without_weights(
    options: ExtractOptions, client: Client, model: Model, info: ModelInfo | None
) -> ExtractOptions:
    """Return options with the library's preprocessing of a model without pretrained weights."""
    is_keras = info is not None and info.source == "keras"
    own = client.preprocessing(replace(model, weights=None)) if is_keras else None
    return replace(options, preprocessing=preprocessing_without_weights(info, own))
