"""Makes a network of a file: without its initial values where that works, else the ordinary way.

Knows no catalogue and no place of files.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from torch import nn

from ...backends.torch.seeding import seed_thread
from ...backends.torch.shortcuts import SHORTCUTS
from ...backends.torch.uninitialised import missing_values, uninitialised
from ...errors import ThingsvisionError
from .state_dicts import StateDict

_OF_NETWORKS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    ThingsvisionError,
)
"""What a network raises that can't do without values, or that a file does not fit."""

_log = structlog.get_logger(__name__)


def load_network(
    build: Callable[[StateDict], nn.Module], read: Callable[[], StateDict]
) -> nn.Module:
    """Return the network that `build` makes of the tensors that `read` returns.

    It has the bits of the ordinary way: a network that misses a value, and every error, sends
    the load there, with tensors that nobody has touched yet.
    """
    if SHORTCUTS.skip_initialisation:
        network, reason = _build_uninitialised(build, read())
        if network is not None:
            return network
        _log.info("initialised before its weights were copied", reason=reason)
    with seed_thread(0):
        return build(read())


def _build_uninitialised(
    build: Callable[[StateDict], nn.Module], state: StateDict
) -> tuple[nn.Module | None, str]:
    """Return the network, or None and why it can't be built uninitialised."""
    try:
        with uninitialised():  # draws nothing
            network = build(state)
    except _OF_NETWORKS as error:
        return None, str(error).partition("\n")[0]
    without_value = missing_values(network)
    if without_value:
        return None, f"the file has no values for {', '.join(without_value[:4])}"
    return network, ""
