"""Turns structures and errors into the replies of a child, and reads them back with care.

A reply of a guest may be anything: what is read here has the types that the server relies on, or
is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ... import errors
from ...errors import ThingsvisionError
from ..base import NetworkError, OutOfDeviceMemoryError, Supported
from ..compute_options import DEFAULT
from ..device_faults import first_line, is_out_of_memory
from ..modules import CallInfo, ModuleInfo, Structure
from .channel import Message

_CLASSES: Mapping[str, type[ThingsvisionError]] = {
    one.__name__: one
    for one in (
        errors.InvalidRequestError,
        errors.InvalidWeightsError,
        errors.WeightsMismatchError,
        errors.NotExtractableError,
        errors.DeviceMemoryError,
    )
}
"""Errors that a program may have caused."""

_MAX_TEXT = 4000


class ChildFault(RuntimeError):  # noqa: N818 - its name is not for users
    """A child's own code failed, or what it replied makes no sense; a traceback, if it has one."""


def describe_error(error: BaseException) -> Message | None:
    """Return the reply for what a request raised; None if it is none of the errors expected."""
    if isinstance(error, OutOfDeviceMemoryError) or is_out_of_memory(error):
        return {"error": "memory", "message": first_line(error)}
    if isinstance(error, NetworkError):
        return {"error": "network", "message": str(error), "shape": list(error.shape)}
    if isinstance(error, ThingsvisionError):
        found = {"message": str(error), "field": error.field, "subject": error.subject}
        return {"error": "request", "class": type(error).__name__, **found}
    return None


def raise_error(reply: Message) -> None:
    """Raise the error in a reply, if it is one."""
    if "error" not in reply:
        return
    kind, whole = reply["error"], str(reply.get("message", ""))
    message = whole[-_MAX_TEXT:] if kind == "bug" else whole[:_MAX_TEXT]  # a traceback's end
    if kind == "memory":
        raise OutOfDeviceMemoryError(message)
    if kind == "network":
        raise NetworkError(message, read_shape(reply.get("shape", ())))
    found = _CLASSES.get(str(reply.get("class"))) if kind == "request" else None
    if found is None:
        raise ChildFault(message)
    raise found(message, field=_text(reply.get("field")), subject=_text(reply.get("subject")))


def _text(value: Any) -> str:
    return str(value or "")[:_MAX_TEXT]


def read_shape(values: Any) -> tuple[int, ...]:
    """Return a shape; raise ChildFault if it is not one."""
    if not isinstance(values, list | tuple) or not all(isinstance(one, int) for one in values):
        raise ChildFault("a shape in its reply is not a list of integers")
    return tuple(values)


def read_sizes(values: Any) -> tuple[int | None, ...]:
    """Return sizes, None for any size; raise ChildFault if they are not."""
    return tuple(None if one is None else read_shape([one])[0] for one in _list(values))


def structure_message(structure: Structure) -> Message:
    """Return a structure as a message has it."""
    # `asdict` copies each value deeply, which takes ten times as long.
    modules = [
        {**vars(module), "calls": [vars(call) for call in module.calls]}
        for module in structure.modules
    ]
    return {**vars(structure), "modules": modules}


def read_structure(message: Any) -> Structure:
    """Return the structure in a message; raise ChildFault."""
    try:
        modules = tuple(map(_read_module, message["modules"]))
        return Structure(modules, int(message["state_bytes"]))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ChildFault(f"the modules in its reply can't be read: {error}") from error


def _read_module(message: Mapping[str, Any]) -> ModuleInfo:
    prefix_tokens = message["prefix_tokens"]
    return ModuleInfo(
        name=str(message["name"]),
        type=str(message["type"]),
        attributes=str(message["attributes"]),
        depth=int(message["depth"]),
        parent=str(message["parent"]),
        parameter_count=int(message["parameter_count"]),
        calls=tuple(map(_read_call, message["calls"])),
        reason=str(message["reason"]),
        modality=str(message["modality"]),
        prefix_tokens=None if prefix_tokens is None else int(prefix_tokens),
        has_class_token=bool(message["has_class_token"]),
        position=int(message["position"]),
        classes=tuple(map(str, message["classes"])),
    )


def _read_call(message: Mapping[str, Any]) -> CallInfo:
    shape = read_shape(message["shape"])
    dtype, reason = str(message["dtype"]), str(message["reason"])
    return CallInfo(shape, dtype, reason, tuple(map(str, message["axes"])))


def supported_message(supported: Supported) -> Message:
    """Return which options a model computes with, as a message has it."""
    values = supported.items()
    return {name: [getattr(one, "value", one) for one in some] for name, some in values}


def read_supported(message: Any) -> Supported:
    """Return which options a model computes with; raise ChildFault."""
    usual = vars(DEFAULT)
    try:
        return {
            name: tuple(type(usual[name])(one) for one in _sequence(some))
            for name, some in message.items()
        }
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ChildFault(f"the options in its reply can't be read: {error}") from error


def _list(values: Any) -> Sequence[Any]:
    if not isinstance(values, list):
        raise ChildFault("sizes in its reply are not a list")
    return values


def _sequence(values: Any) -> Sequence[Any]:
    if not isinstance(values, list):
        raise TypeError(f"not a list: {type(values).__name__}")
    return values
