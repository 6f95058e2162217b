"""Between the options of a forward pass in messages and the engine's own, by their fields."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...backends.compute_options import DEFAULT, ComputeOptions
from .models import known


def compute_options(header: pb.ExtractHeader) -> ComputeOptions:
    """Return the options that a header asks for; raise for a value that is not known."""
    return ComputeOptions(**{name: _value(header, name) for name in vars(DEFAULT)})


def _value(header: pb.ExtractHeader, name: str) -> Any:
    value = getattr(header, name)
    return known(name, value, _members(name)) if isinstance(getattr(DEFAULT, name), Enum) else value


@cache
def _members(name: str) -> dict[int, Enum]:
    """Return what the numbers of an option's enum stand for; the first one, for the default."""
    default: Enum = getattr(DEFAULT, name)
    enum: Any = pb.ExtractHeader.DESCRIPTOR.fields_by_name[name].enum_type
    unspecified, *rest = enum.values
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    named = {one.number: type(default)(one.name.removeprefix(prefix).lower()) for one in rest}
    return {unspecified.number: default, **named}
