"""Models as users name them on the command line: `source/name@weights`, or only a name."""

from __future__ import annotations

from difflib import get_close_matches
from glob import escape

from ..client import Client
from ..errors import InvalidRequestError, UnknownModelError, UnknownSourceError
from ..library.spellings import current_name, current_source
from ..values.model import Model
from ..values.records import ModelInfo

_NEAR = 0.6
_MOST_NEAR = 5
_OF_NO_MODEL = "*\n"
"""A glob that no name matches, to ask for the source alone."""


def find_source(
    client: Client, name: str, source: str | None = None, *, preferred: str = ""
) -> tuple[str, str]:
    """Return source and name of a model that a user named by `source/name`, or by a name alone.

    A name that several sources have is `preferred`'s, if that is one of them. Raises
    UnknownModelError, and InvalidRequestError for a name that several sources have.
    """
    if not name:
        raise InvalidRequestError("A model must be named, such as 'torchvision/resnet50', got ''.")
    if source is not None:
        return source, _without_source(name, source)
    head, slash, rest = name.partition("/")
    if slash and rest and _has_source(client, head):
        return head, rest
    found = {info.source for info in client.models("", escape(current_name(name)))}
    if not found:
        raise UnknownModelError(_describe_unknown(client, name), field="model.name", subject=name)
    if preferred in found:
        return preferred, name
    if len(found) > 1:
        named = ", ".join(f"{one}/{name}" for one in sorted(found))
        raise InvalidRequestError(
            f"Several sources have a model {name!r}: name it {named}, or pass --source."
        )
    return found.pop(), name


def find_model(client: Client, text: str) -> Model:
    """Return the model that a user named by `source/name[@weights]` or `name[@weights]`.

    Raises as `find_source`.
    """
    named, _, weights = text.partition("@")
    source, name = find_source(client, named)
    return Model(current_source(source), current_name(name), weights or None)


def filter_models(client: Client, text: str = "", source: str = "") -> list[ModelInfo]:
    """Return the models whose names contain a text or match a glob, whatever the case.

    `source/text` asks one source. Raises UnknownSourceError, and UnknownModelError if none does.
    """
    head, slash, rest = text.partition("/")
    if slash and not source and _has_source(client, head):
        source, text = head, rest
    is_glob = any(letter in text for letter in "*?[")
    glob = text if is_glob else f"*{text}*" if text else ""
    # A library may know names that it does not list, such as timm's `resnet50.a1_in1k`.
    found = client.models(source, _any_case(glob)) or client.models(source, text)
    if not found:
        where = f"source {source}" if source else "server"
        raise UnknownModelError(
            f"The {where} has no model that matches {text!r}. {_suggestion(client, text)}"
        )
    return found


def _without_source(name: str, source: str) -> str:
    """Return a model's name, without the source if the user named that twice."""
    return name.removeprefix(f"{source}/") or name


def _has_source(client: Client, source: str) -> bool:
    try:
        client.models(source, _OF_NO_MODEL)
    except UnknownSourceError:
        return False
    return True


def _any_case(glob: str) -> str:
    """Return a glob that matches letters of either case, except within brackets."""
    letters, is_inside = [], False
    for letter in glob:
        both = {letter.lower(), letter.upper()}
        letters.append(letter if is_inside or len(both) == 1 else f"[{''.join(sorted(both))}]")
        is_inside = letter == "[" or (is_inside and letter != "]")
    return "".join(letters)


def _describe_unknown(client: Client, name: str) -> str:
    return f"The server has no model {name!r}. {_suggestion(client, name)}"


def _suggestion(client: Client, name: str) -> str:
    """Return which names are like `name`, whatever their case, and how to list all."""
    known: dict[str, list[str]] = {}
    for info in client.models():
        known.setdefault(info.name.casefold(), []).append(f"{info.source}/{info.name}")
    near = get_close_matches(name.casefold(), known, n=_MOST_NEAR, cutoff=_NEAR)
    found = ", ".join(one for match in near for one in known[match])
    return f"{f'Did you mean {found}? ' if found else ''}`models` lists all."
