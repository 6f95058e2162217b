"""Reads `model_parameters`: which network, which weights, which options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..values.model import tag_text
from ..values.options import OPTIONS, ExtractOptions

PARAMETERS: Mapping[str, str] = {
    "seed": "Seed of random weights.",
    "weights": "Tag of pretrained weights.",
    "variant": "Network of a family of models, such as ViT-B/32 of clip.",
    "dataset": "Tag of pretrained weights; OpenCLIP calls it the dataset.",
    "part": "Part of the checkpoint in model_path: a key, a prefix, or both, such as ema, module. "
    "or state_dict/backbone.",
    **{option.name: option.help for option in OPTIONS.values() if option.is_of_model},
}
"""The keys, and what their values are."""

_WEIGHTS = ("seed", "weights", "dataset")

_RESOLUTION = re.compile(r"@(\d+)px$")


def qualified_model_name(model_name: str, parameters: Mapping[str, Any]) -> str:
    """Return a model's name in its source: with a variant it is `model_name/variant`.

    In variants as CLIP's authors spell them `/` and `@` become `-`: `ViT-L/14@336px` is
    `ViT-L-14-336`.
    """
    variant = parameters.get("variant")
    if variant is None:
        return model_name
    spelled = _RESOLUTION.sub(r"-\1", str(variant))
    return f"{model_name}/{re.sub('[/@]', '-', spelled)}"


def options_of(parameters: Mapping[str, Any]) -> ExtractOptions:
    """Return the options among the parameters. Raises InvalidRequestError."""
    of_model = (option.name for option in OPTIONS.values() if option.is_of_model)
    return ExtractOptions.from_json({name: parameters.get(name) for name in of_model})


def weights_of(parameters: Mapping[str, Any], *, pretrained: bool, own_file: bool) -> str | None:
    """Return `Model.weights`; None stands for the default ones, and for those of a user's file.

    Raises InvalidRequestError for unknown keys, and for those that contradict the rest.
    """
    _check_keys(parameters)
    given = [key for key in _WEIGHTS if parameters.get(key) is not None]
    if own_file:
        if given:
            raise InvalidRequestError(
                f"model_path has the weights: leave {given} out of model_parameters."
            )
        return None
    if parameters.get("part") is not None:
        raise InvalidRequestError(
            "model_parameters['part'] names a part of your checkpoint: give model_path too."
        )
    if not pretrained and "dataset" in given:  # as in the library, where it chooses only weights
        given.remove("dataset")
    for key in given:
        if pretrained == (key == "seed"):
            raise InvalidRequestError(
                f"model_parameters[{key!r}] needs pretrained={not pretrained}."
            )
    if len(given) > 1:
        raise InvalidRequestError(
            f"`model_parameters` must name the weights once, got {given}: give one."
        )
    value = tag_text(parameters[given[0]]) if given else None
    if pretrained and value is not None and not isinstance(value, str):
        raise InvalidRequestError(
            f"`model_parameters[{given[0]!r}]` must be a tag of pretrained weights, got {value!r}."
        )
    return value if pretrained else f"random:{value or 0}"


def _check_keys(parameters: Mapping[str, Any]) -> None:
    if parameters.get("vision_cfg"):  # the library ignores an empty one
        raise InvalidRequestError(
            f"model_parameters['vision_cfg'] changes OpenCLIP's network, got "
            f"{parameters['vision_cfg']!r}, and the server has its networks only as open_clip "
            "configures them: make it with open_clip.create_model in your process, and send its "
            "image tower, get_extractor_from_model(network.visual, device, 'pt', preprocess=...). "
            "Tokens, as with output_tokens, are the output of the module visual.ln_post here."
        )
    unknown = sorted(set(parameters) - set(PARAMETERS) - {"vision_cfg"})
    if unknown:
        raise InvalidRequestError(
            f"`model_parameters` must have keys of {', '.join(PARAMETERS)}, got {unknown}. A "
            "network with other layers or settings, such as num_classes=10, is made in your "
            "process and sent with get_extractor_from_model(network, device, backend)."
        )
