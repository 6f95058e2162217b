"""Texts to send in the place of images, and the part of a model that sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Union

from ..errors import InvalidRequestError
from ..values.records import ModuleInfo
from .image import ImageContent, SentImage
from .queue import ImageQueue

Texts = Union[str, "Iterable[str | tuple[str, str]]"]
"""A text, or texts or pairs (name, text); a text without a name is its own name."""

TEXT = "text"


def queue_texts(texts: Texts) -> ImageQueue:
    """Return the texts to send. Raises InvalidRequestError if there are none, and TypeError."""
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise TypeError(f"Texts must be a string or a list of strings, got {texts!r}.")
    sent = [_as_text(text) for text in ([texts] if isinstance(texts, str) else texts)]
    if not sent:
        raise InvalidRequestError("There are no texts to send.")
    return ImageQueue(sent, len(sent))


def _as_text(text: Any) -> SentImage:
    if isinstance(text, str):
        return SentImage(text, partial(ImageContent, text), TEXT)
    if isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return SentImage(text[0], partial(ImageContent, text[1]), TEXT)
    raise TypeError(f"{text!r} is not a text: give a string, or a pair of strings (name, text).")


def text_tower(modules: Sequence[ModuleInfo]) -> str:
    """Return the module that gives the features of texts: the one that contains all others.

    Raises InvalidRequestError if a model sees no texts, or has several such modules.
    """
    parents = {module.name: module.parent for module in modules if module.depth}
    seeing = {module.name for module in modules if module.modality == TEXT and module.extractable}
    if not seeing:
        raise InvalidRequestError("This model has no text tower: it takes only images.")
    towers = [name for name in seeing if seeing.isdisjoint(_above(name, parents))]
    if len(towers) == 1:
        return towers[0]
    raise InvalidRequestError(
        f"Several modules of this model give features of texts: name one of "
        f"{', '.join(repr(module.name) for module in modules if module.name in towers)}."
    )


def _above(name: str, parents: Mapping[str, str]) -> Iterator[str]:
    while name in parents:
        name = parents[name]
        yield name
