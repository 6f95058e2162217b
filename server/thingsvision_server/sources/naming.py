"""Resolves the names of models and weights, or raises an error that lists near matches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ..errors import UnknownModelError, UnknownWeightsError, choices
from .base import ModelKey, Pretrained, Uploaded
from .weights.folder import WeightsFolder


def check_name(
    key: ModelKey,
    names: Collection[str],
    *,
    refused: Mapping[str, str] | None = None,
    nothing: str = "",
) -> None:
    """Raise UnknownModelError if a source has no such model.

    `refused` maps names that users may know from elsewhere to the reason why they are missing;
    `nothing` says why the source has no models at all.
    """
    if key.name not in names:
        hint = (refused or {}).get(key.name) or choices(key.name, names) or nothing
        sentence = f"{key.source} has no model {key.name!r}. {hint}"
        raise UnknownModelError(sentence, field="model.name", subject=key.name)


def with_weights(
    key: ModelKey, weights: WeightsFolder, tags: Callable[[str], Sequence[str]]
) -> ModelKey:
    """Return the key with its weights spelled out; raise UnknownWeightsError.

    `tags` returns the tags of a model's pretrained weights, the default first.
    """
    if isinstance(key.weights, Uploaded):
        weights.find_upload(key.weights.sha256)
    if isinstance(key.weights, Pretrained):
        return replace(key, weights=_match_tag(key.name, key.weights.tag, tags(key.name)))
    return key


def _match_tag(name: str, tag: str, tags: Sequence[str]) -> Pretrained:
    if tag in tags or (tags and not tag):
        return Pretrained(tag or tags[0])
    wanted = f"no pretrained weights {tag!r}" if tag else "no pretrained weights"
    hint = choices(tag, tags) or "Use random or uploaded weights."
    sentence = f"{name} has {wanted}. {hint}"
    raise UnknownWeightsError(sentence, field="model.pretrained_tag", subject=tag)
