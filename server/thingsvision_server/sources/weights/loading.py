"""Loads a network from a file, skipping its random initialisation if the file has every value."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from torch import nn

from ...backends.torch.seeding import seed_thread
from ...backends.torch.shortcuts import SHORTCUTS
from ...backends.torch.uninitialised import missing_values, skip_initial_values
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
"""What a network raises if it needs initial values, or if a file does not fit it."""

_log = structlog.get_logger(__name__)


def load_network(
    build: Callable[[StateDict], nn.Module], read: Callable[[], StateDict]
) -> nn.Module:
    """Return the network that `build` makes from the tensors that `read` returns.

    Bit-identical to a normal load: if the network lacks a value, or anything raises, it is built
    again in the normal way, from freshly read tensors.
    """
    if SHORTCUTS.skip_initialisation:
        network, reason = _build_uninitialised(build, read())
        if network is not None:
            return network
        _log.info("initialised a network before copying its weights", reason=reason)
    with seed_thread(0):
        return build(read())


def _build_uninitialised(
    build: Callable[[StateDict], nn.Module], state: StateDict
) -> tuple[nn.Module | None, str]:
    """Return the network, or None and the reason why it can't be built uninitialised."""
    try:
        with skip_initial_values():  # draws no random numbers
            network = build(state)
    except _OF_NETWORKS as error:
        return None, str(error).partition("\n")[0]
    if missing := missing_values(network):
        return None, f"the file has no values for {', '.join(missing[:4])}"
    return network, ""
