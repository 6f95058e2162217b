"""What the axes of features are, by the contract's numbers."""

from __future__ import annotations

from collections.abc import Iterable

from thingsvision_proto.v1 import thingsvision_pb2 as pb

CHANNELS, HEIGHT, WIDTH, TOKENS, FEATURES = "channels", "height", "width", "tokens", "features"
CALLS = "calls"

_NAMES = {number: name.removeprefix("AXIS_").lower() for name, number in pb.Axis.items() if number}


def axis_names(numbers: Iterable[int], count: int) -> tuple[str, ...]:
    """Return the name of each of `count` axes; empty texts for unknown ones.

    Servers of other versions may say nothing of axes, or name axes that this client doesn't know.
    """
    found = tuple(_NAMES.get(number, "") for number in numbers)
    return found if len(found) == count else ("",) * count
