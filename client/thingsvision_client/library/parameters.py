"""What `model_parameters` say: which network, which weights; knows no model's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..values.reductions import FeatureOptions, Reduction, reduction_of

PARAMETERS: Mapping[str, str] = {
    "seed": "of random weights",
    "weights": "tag of pretrained weights",
    "variant": "of a family of models, such as ViT-B/32 of clip",
    "dataset": "tag of pretrained weights, as OpenCLIP calls it",
    "token_extraction": "cls_token, avg_pool or cls_token+avg_pool, for sequences of tokens",
    "precision": "of the forward pass: float32, tf32, bfloat16 or float16",
    "dtype": "of the features: float32 or float16",
    "deterministic": "true: every image alone, the same bits whatever its neighbours",
    "memory_format": "of the forward pass: contiguous, or the quicker channels_last",
    "compiled": "true: passes of compiled code, quicker from the second batch on",
    "reduction": "what features are made smaller by, an object: see Reduction",
}
"""The keys, and what their values are."""

_WEIGHTS = ("seed", "weights", "dataset")

_RESOLUTION = re.compile(r"@(\d+)px$")


def full_name(model_name: str, parameters: Mapping[str, Any]) -> str:
    """Return a model's name in its source: with a variant it is `model_name/variant`.

    In variants as CLIP's authors spell them `/` and `@` become `-`: `ViT-L/14@336px` is
    `ViT-L-14-336`.
    """
    variant = parameters.get("variant")
    if variant is None:
        return model_name
    spelled = _RESOLUTION.sub(r"-\1", str(variant))
    return f"{model_name}/{re.sub('[/@]', '-', spelled)}"


def options_of(parameters: Mapping[str, Any]) -> FeatureOptions:
    """Return how features are computed and sent. Raises InvalidRequestError."""
    names = ("precision", "memory_format", "compiled", "dtype", "deterministic", "reduction")
    given = {name: parameters[name] for name in names if parameters.get(name) is not None}
    reduction = given.get("reduction")
    if reduction is not None and not isinstance(reduction, Reduction):
        given["reduction"] = reduction_of(reduction)
    return FeatureOptions(**given)


def weights_of(parameters: Mapping[str, Any], *, pretrained: bool, own_file: bool) -> str | None:
    """Return `Model.weights`; None stands for the default ones, and for those of a user's file.

    Raises InvalidRequestError for unknown keys, and for those that contradict the rest.
    """
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise InvalidRequestError(
            f"model_parameters has no {unknown}; valid: {', '.join(PARAMETERS)}."
        )
    given = [key for key in _WEIGHTS if parameters.get(key) is not None]
    if own_file:
        if given:
            raise InvalidRequestError(f"model_path has the weights: leave {given} out.")
        return None
    for key in given:
        if pretrained == (key == "seed"):
            raise InvalidRequestError(
                f"model_parameters[{key!r}] needs pretrained={not pretrained}."
            )
    if len(given) > 1:
        raise InvalidRequestError(f"Of model_parameters, {given} name the weights twice: give one.")
    value = parameters[given[0]] if given else None
    if pretrained and value is not None and not isinstance(value, str):
        raise InvalidRequestError(
            f"model_parameters[{given[0]!r}] is a {PARAMETERS[given[0]]}, not {value!r}."
        )
    return value if pretrained else f"random:{value or 0}"
