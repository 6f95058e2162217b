"""Finds a model in a server's list."""

from __future__ import annotations

from glob import escape

from ..client import Client
from ..values.model import Model
from ..values.records import ModelInfo


def find_listing(client: Client, model: Model) -> ModelInfo | None:
    """Return a model's entry in the list, if any; raise at once if the server can't run it."""
    found = client.models(model.source, escape(model.name))
    if not found:
        client.modules(model)
    return found[0] if found else None
