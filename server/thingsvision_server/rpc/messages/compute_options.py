"""Reads the options of a forward pass from messages, by the names of their fields."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...backends.compute_options import DEFAULT, ComputeOptions
from .models import decode_enum


def compute_options(header: pb.ExtractHeader) -> ComputeOptions:
    """Return the options that a header asks for; raise if a value is unknown."""
    return ComputeOptions(**{name: _value(header, name) for name in vars(DEFAULT)})


def _value(header: pb.ExtractHeader, name: str) -> Any:
    value = getattr(header, name)
    is_enum = isinstance(getattr(DEFAULT, name), Enum)
    return decode_enum(name, value, _members(name)) if is_enum else value


@cache
def _members(name: str) -> dict[int, Enum]:
    """Return the values of an option's enum, by number; number 0 stands for the default."""
    default: Enum = getattr(DEFAULT, name)
    enum: Any = pb.ExtractHeader.DESCRIPTOR.fields_by_name[name].enum_type
    unspecified, *rest = enum.values
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    named = {one.number: type(default)(one.name.removeprefix(prefix).lower()) for one in rest}
    return {unspecified.number: default, **named}
