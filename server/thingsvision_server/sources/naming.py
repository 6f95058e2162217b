"""Resolves the names of models and weights, or raises an error that lists near matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from ..errors import UnknownModelError, UnknownWeightsError, choices
from .base import ModelKey, Pretrained, Uploaded
from .weights.folder import WeightsFolder

_NEAR = 0.8
_MOST_ELSEWHERE = 4


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


def elsewhere(name: str, names: Mapping[str, Collection[str]]) -> str:
    """Return which other sources have a model of a name, or one like it; empty if none has.

    `names` are those of each source. Letter case, `-` and `_`, and a tag after `.` don't matter.
    """
    wanted = {_plain(name), _plain(name.partition(".")[0])}
    same = [
        (source, found)
        for source, known in names.items()
        for found in known
        if _plain(found) in wanted
    ]
    near = same or [
        (source, found)
        for source, known in names.items()
        for found in get_close_matches(name, known, n=1, cutoff=_NEAR)
    ]
    return ", ".join(f"source={source!r} has {found!r}" for source, found in near[:_MOST_ELSEWHERE])


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


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
