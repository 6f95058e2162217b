"""Checks the arguments of public functions against the types that their signatures declare."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

from ..errors import InvalidRequestError, ThingsvisionError
from .arguments import expand_home, is_path, is_text, is_whole, told

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

FULL_TRACEBACKS = "THINGSVISION_TRACEBACKS"
"""The environment variable with which errors show every line of this package, for its authors."""


@dataclass(frozen=True)
class Kind:
    """Values that an argument may have: in words, and by a test."""

    words: str
    accepts: Callable[[Any], bool]


def check_arguments(thing: T) -> T:
    """Check the arguments of a public function, or of a class and its public methods.

    Arguments of other types than the signature declares are refused, and `~` at the start of paths
    becomes the user's home.
    """
    decorate = _check_methods if inspect.isclass(thing) else _check_function
    return cast("T", decorate(thing))


def _check_methods(owner: Any) -> Any:
    for name, member in list(vars(owner).items()):
        if isinstance(member, FunctionType) and (name == "__init__" or name[0] != "_"):
            described = owner if name == "__init__" else member
            setattr(owner, name, _check_function(member, described))
    return owner


def _check_function(function: Any, described: Any = None) -> Any:
    parameters = inspect.signature(function).parameters.values()
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    kinds = _kinds_by_name(parameters)
    paths = {name for name, found in kinds.items() if _PATHS.intersection(found)}

    def take(name: str, value: Any) -> Any:
        fault = _fault(name, value, kinds.get(name, ()))
        if fault:
            raise InvalidRequestError(fault + _explain(name, described or function, positional))
        return expand_home(value) if name in paths else value

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        # Python itself refuses too many arguments, and unknown ones, at the call.
        more = args[len(positional) :]
        __tracebackhide__ = True
        try:
            taken = [take(*one) for one in zip(positional, args)]  # noqa: B905
            named = {name: take(name, value) for name, value in kwargs.items()}
            return function(*taken, *more, **named)
        except (ThingsvisionError, KeyboardInterrupt) as error:
            if FULL_TRACEBACKS in os.environ:
                raise
            failure = shorten(error)
        raise failure

    return call


def _kinds_by_name(parameters: Iterable[inspect.Parameter]) -> dict[str, tuple[Kind, ...]]:
    return {
        one.name: kinds_of(one.annotation)
        for one in parameters
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.annotation != one.empty
    }


def shorten(error: E) -> E:
    """Return an error without the lines of this package, and without the errors before it."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _explain(name: str, described: Any, positional: Sequence[str]) -> str:
    """Return what the docstring says of a parameter, and the order of the arguments."""
    text = inspect.getdoc(described) or ""
    entry = re.search(rf"^    {name}: (.+(?:\n {{6,}}.+)*)", text, re.MULTILINE)
    order = [one for one in positional if one != "self"]
    about = f" `{name}`: {' '.join(entry[1].split())}" if entry else ""
    return about + (f" The order of the arguments is {', '.join(order)}." if order[1:] else "")


def check_type(argument: str, value: Any, declared: str) -> None:
    """Raise InvalidRequestError unless a value has the declared type, such as `int | None`."""
    if fault := _fault(argument, value, kinds_of(declared)):
        raise InvalidRequestError(fault)


def kinds_of(declared: str) -> tuple[Kind, ...]:
    """Return the kinds of a declared type; none if it takes values of every type."""
    parts = list(_parts(declared))
    if "Path" in parts and "str" in parts:
        parts.remove("str")
    found = tuple(_kind(part) for part in parts)
    return () if _ANYTHING in found else found


def _parts(declared: str) -> Iterator[str]:
    """Yield the members of a union."""
    depth, part = 0, ""
    for letter in declared:
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and not depth:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield part.strip()


def _kind(part: str) -> Kind:
    name = part.partition("[")[0].rpartition(".")[2]
    if name in _KINDS:
        return _KINDS[name]
    article = "an" if name[0] in "AEIOU" else "a"
    return Kind(f"{article} {name}", lambda value: _is_instance(value, name))


def _fault(name: str, value: Any, kinds: Sequence[Kind]) -> str:
    """Return what is wrong with a value; empty if it is of one of the kinds."""
    if not kinds or any(kind.accepts(value) for kind in kinds):
        return ""
    words = " or ".join(dict.fromkeys(kind.words for kind in kinds))
    shown = f"a {type(value).__name__}" if name in _SECRET else told(value)
    return f"`{name}` must be {words}, got {shown}."


_SECRET = frozenset({"token"})
"""Parameters whose values no sentence shows."""


def _is_instance(value: Any, name: str) -> bool:
    """Tell whether a value is of a class of this name, which need not be imported for that."""
    return any(one.__name__ == name for one in type(value).__mro__)


def _is_truth(value: Any) -> bool:
    is_numpys = "bool" in str(getattr(value, "dtype", "")) and getattr(value, "shape", ()) == ()
    return isinstance(value, bool) or is_numpys or (type(value) is int and value in (0, 1))


def _is_number(value: Any) -> bool:
    if isinstance(value, (bool, str, bytes)) or getattr(value, "shape", ()) != ():
        return False
    return hasattr(value, "__float__") or hasattr(value, "__index__")


def _is_list(value: Any) -> bool:
    if isinstance(value, (str, bytes, Mapping)) or getattr(value, "shape", None) == ():
        return False
    return isinstance(value, Iterable) or hasattr(value, "tolist")


def _is_array(value: Any) -> bool:
    """Tell whether a value may be an array, a tensor, a table, or lists of numbers."""
    if isinstance(value, (str, bytes, bytearray, Mapping, set, frozenset, type)) or is_path(value):
        return hasattr(value, "__array__")
    return any(hasattr(value, name) for name in _OF_ARRAYS)


def _may_be_images(value: Any) -> bool:
    return is_path(value) or _is_list(value) or _is_instance(value, "Image")


_OF_ARRAYS = (
    "__array__",
    "__iter__",
    "__len__",
    "shape",
    "dissimilarities",
    "measurements",
    "rdms",
)
"""What arrays, lists, objects of rsatoolbox or our RDMs have."""

_ANYTHING = Kind("anything", lambda _: True)
_PATH = Kind("a path", is_path)
_IMAGES = Kind("a folder, a file, or a list of files, Pillow images or arrays", _may_be_images)
_PATHS = frozenset({_PATH, _IMAGES})
_CALLABLE = Kind("a function", callable)
_LIST = Kind("a list", _is_list)
_MAPPING = Kind("a mapping", lambda value: isinstance(value, Mapping))
_ARRAY = Kind("an array of numbers", _is_array)

_KINDS: dict[str, Kind] = {
    "Any": _ANYTHING,
    "None": Kind("None", lambda value: value is None),
    "str": Kind("a text", is_text),
    "Path": _PATH,
    "bool": Kind("True or False", _is_truth),
    "int": Kind("a whole number", is_whole),
    "float": Kind("a number", _is_number),
    "Sequence": _LIST,
    "list": _LIST,
    "tuple": _LIST,
    "Mapping": _MAPPING,
    "dict": _MAPPING,
    "Callable": _CALLABLE,
    "Progress": _CALLABLE,
    "ProgressChoice": Kind(
        "True, False, None or a function",
        lambda value: value is None or isinstance(value, bool) or callable(value),
    ),
    "LoadProgress": _CALLABLE,
    "Array": _ARRAY,
    "ArrayLike": _ARRAY,
    "Features": Kind(
        "an array of numbers, or a mapping of arrays",
        lambda value: isinstance(value, Mapping) or _is_array(value),
    ),
    "Images": _IMAGES,
    "References": Kind(
        "an array, a path, a mapping, or a list of these",
        lambda value: is_path(value) or isinstance(value, Mapping) or _is_array(value),
    ),
    "DeviceName": Kind(
        "a text", lambda value: value is None or is_text(value) or _is_instance(value, "device")
    ),
    "Texts": Kind("a text or a list of texts", lambda value: is_text(value) or _is_list(value)),
}
"""Kinds by the names of types in signatures; other names are classes."""
