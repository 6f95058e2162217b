"""The source of a model that a script names without one, from the server's list of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from glob import escape

from ..client import Client
from ..errors import UnknownModelError
from ..library.spellings import PAPER_NAMES, current_name
from ..values.model import Model

ORDER: Mapping[str, Sequence[str]] = {
    "pt": ("torchvision", "custom", "ssl", "timm", "transformers"),
    "tf": ("keras", "custom"),
}
"""Order in which sources are searched for a name, by backend; all others come last."""

_MOST_NEAR = 5


def find_model(client: Client, name: str, backend: str) -> Model:
    """Return the first model of that name which runs on a backend, with its default weights.

    Raises UnknownModelError with near matches.
    """
    wanted = current_name(name)
    found = client.models(name_glob=escape(wanted))
    sources = [info.source for info in found if (info.backend or "pt") == backend]
    if not sources:
        raise UnknownModelError(_fault(client, name, backend), subject=name)
    return Model(min(sources, key=lambda source: _place(source, backend)), wanted)


def _place(source: str, backend: str) -> tuple[int, str]:
    order = ORDER[backend]
    return order.index(source) if source in order else len(order), source


def _fault(client: Client, name: str, backend: str) -> str:
    listed = client.models()
    names = {info.name.lower(): info.name for info in listed if info.backend == backend}
    names |= {paper.lower(): paper for paper in PAPER_NAMES if backend == "pt"}
    near = get_close_matches(name.lower(), names, n=_MOST_NEAR)
    others = {info.backend for info in listed if info.name == name and info.backend != backend}
    hints = [
        f"; near: {', '.join(names[match] for match in near)}" if near else "",
        f"; there is one with backend={min(others)!r}" if others else "",
    ]
    return f"The server lists no model {name!r} with backend={backend!r}{''.join(hints)}."
