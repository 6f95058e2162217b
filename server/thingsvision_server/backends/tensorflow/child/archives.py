"""Builds complete networks from files of Keras' own layers, without running their code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import RefusedError, strip_values, with_suffix
from .graph import check_graph


def build(path: str) -> Any:
    """Return the network in a file, with its weights; raise RefusedError."""
    import keras

    with with_suffix(Path(path)) as file:
        try:
            network = keras.saving.load_model(file, compile=False, safe_mode=True)
        # Keras raises any of these for configs and weights that it can't read.
        except (ValueError, LookupError, OSError, TypeError, AttributeError) as error:
            raise RefusedError("mismatch", strip_values(str(error))) from error
    check_graph(network)
    return network
