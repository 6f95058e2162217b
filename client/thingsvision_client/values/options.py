"""The table of options: each has its name, type, default, choices and help here, and only here.

Signatures, requests, tasks, provenance, what lies beside files and the command line go through it.
Each type is also in `ExtractArguments`, from which type checkers read it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.arguments import as_whole, told
from ..calls.signatures import check_type
from ..errors import InvalidRequestError
from .preprocessing import Preprocessing, PreprocessingOverrides, changes_of
from .reductions import Reduction, choice, reduction_of
from .tokens import TOKEN_EXTRACTIONS

F = TypeVar("F", bound=Callable[..., Any])


class ComputeArguments(TypedDict, total=False):
    """The options of all calls that run images through a model, for type checkers."""

    batch_size: int | None
    token_extraction: str | None
    preprocessing: PreprocessingOverrides | Preprocessing | None
    precision: str
    deterministic: bool
    reduction: Reduction | None
    memory_format: str
    compiled: bool


class ExtractArguments(ComputeArguments, total=False):
    """The options of calls that send features, for type checkers."""

    dtype: str
    streams: int | str
    allow_mixed: bool


@dataclass(frozen=True)
class Option:
    """A row of the table.

    `choices` are the valid words with their numbers in the contract. `header` is the field of
    ExtractHeader; empty: the option is not sent by itself. `from_json` reads what is not a word,
    number or truth value. `is_of_model` says whether `model_parameters` take it. `is_of_values`
    says whether features depend on it: the others are not in requests, records or metadata.
    """

    name: str
    type: str
    default: Any
    help: str
    choices: Mapping[str, int] | None = None
    header: str = ""
    from_json: Callable[[Any], Any] | None = None
    is_of_model: bool = True
    is_of_values: bool = True

    def check(self, value: Any) -> None:
        """Raise InvalidRequestError unless the option can have this value."""
        if self.choices is not None and not (value is None and self.default is None):
            choice(self.name, value, self.choices)
        elif isinstance(self.default, bool) and not isinstance(value, bool):
            raise InvalidRequestError(f"`{self.name}` must be true or false, got {told(value)}.")
        elif self.choices is None:
            check_type(self.name, value, self.type)

    def to_wire(self, value: Any) -> Any:
        """Return the value of the header's field; None leaves it unset."""
        if self.choices is not None:
            return None if value is None else self.choices[value]
        return value.to_message() if isinstance(value, Reduction) else value


def _words(enum: Any, names: Iterable[str] = ()) -> dict[str, int]:
    """Return the words of an enum of the contract, or the named ones, with their numbers."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    words = {name.removeprefix(prefix).lower(): number for name, number in enum.items() if number}
    return {name: words[name] for name in names} if names else words


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Options of the forward pass, which come back in its provenance."""

    precision: str = field(
        default="float32",
        metadata={
            "help": "Arithmetic of the forward pass: `float32`, or the faster and less exact "
            "`tf32`, `bfloat16` or `float16`, if the device supports it.",
            "choices": _words(pb.Precision),
        },
    )
    deterministic: bool = field(
        default=False,
        metadata={"help": "Run every image alone: the same bits, whatever its neighbours."},
    )
    memory_format: str = field(
        default="contiguous",
        metadata={
            "help": "How batches lie in memory: `contiguous`, or `channels_last`, which makes "
            "convolutions of PyTorch networks faster, with other last bits.",
            "choices": _words(pb.MemoryFormat),
        },
    )
    compiled: bool = field(
        default=False,
        metadata={
            "help": "Run passes compiled by torch.compile: faster from some thousand images on, "
            "with other last bits. It needs a `batch_size`.",
        },
    )


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(ComputeOptions):
    """All options of an extraction. Raises InvalidRequestError for a value that is not valid."""

    batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Images in a forward pass. A number gives the same bits each time; "
            "None lets the server batch images as they come.",
            "is_of_model": False,
        },
    )
    token_extraction: str | None = field(
        default=None,
        metadata={
            "help": "For token sequences, select the class token (`cls_token`), the mean of the "
            "patch tokens (`avg_pool`) or both (`cls_token+avg_pool`). None keeps all tokens.",
            "choices": TOKEN_EXTRACTIONS,
        },
    )
    preprocessing: PreprocessingOverrides | Preprocessing | None = field(
        default=None,
        metadata={
            "help": "Overrides of the model's own preprocessing, or a Preprocessing in its place.",
            "header": "",  # images that are inputs already exclude it
            "from_json": changes_of,
            "is_of_model": False,
        },
    )
    reduction: Reduction | None = field(
        default=None,
        metadata={
            "help": "What makes features smaller before they are sent; in JSON an object with the "
            "fields of Reduction.",
            "from_json": reduction_of,
        },
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Element type of the features: `float32`, or `float16`, which halves what is "
            "sent.",
            "choices": _words(pb.ElementType, ("float32", "float16")),
            "header": "element_type",
        },
    )
    streams: int | str = field(
        default=1,
        metadata={
            "help": "Parts of a long extraction that are sent at the same time, each to the server "
            "of a cluster with the fewest calls: a number, or `auto` for as many as there are "
            "servers. With a `batch_size` the bits are those of one stream.",
            "header": "",
            "is_of_model": False,
            "is_of_values": False,
        },
    )
    allow_mixed: bool = field(
        default=False,
        metadata={
            "help": "Let servers take part that differ in hardware, cores or versions, so that "
            "last bits may differ; else such an extraction with `batch_size` or `deterministic` "
            "stops.",
            "header": "",
            "is_of_model": False,
            "is_of_values": False,
        },
    )

    def __post_init__(self) -> None:
        size = self.batch_size
        if size is not None:
            size = as_whole("batch_size", size)
            object.__setattr__(self, "batch_size", size)
        if size is not None and not 1 <= size < 2**32:
            raise InvalidRequestError(f"`batch_size` must be from 1 to 2**32 - 1, got {size}.")
        object.__setattr__(self, "streams", _check_streams(self.streams))
        for option in OPTIONS.values():
            option.check(getattr(self, option.name))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ExtractOptions:
        """Return the options of JSON values by name; None is the default."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            read = OPTIONS[name].from_json
            if read is not None and isinstance(value, Mapping):
                given[name] = read(value)
        return cls(**given)

    @classmethod
    def from_call(
        cls, function: str, arguments: Mapping[str, Any], *, sends_features: bool = True
    ) -> ExtractOptions:
        """Return the options passed to a function. Raises TypeError for a name it does not take."""
        for name in arguments:
            if name in _TAKEN_APART and not sends_features:
                raise InvalidRequestError(_one_server(name, arguments[name]))
            if name not in _names(sends_features):
                raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        return cls(**arguments)

    def header_fields(self) -> dict[str, Any]:
        """Return the fields of ExtractHeader, but for those of the input."""
        rows = (option for option in OPTIONS.values() if option.header)
        return {option.header: option.to_wire(getattr(self, option.name)) for option in rows}

    def without_dtype(self) -> dict[str, Any]:
        """Return the arguments of `Client.rdm` and `fit_pca`. Raises InvalidRequestError."""
        if self.dtype != "float32":
            raise InvalidRequestError(
                f"`dtype` must be float32, got {self.dtype!r}: it only affects features sent to "
                "the client; RDMs and PCAs are computed on the server in float32. Leave it out."
            )
        if self.streams != 1:
            raise InvalidRequestError(_one_server("streams", self.streams))
        left_out = ("dtype", *_TAKEN_APART)
        return {name: value for name, value in vars(self).items() if name not in left_out}

    @property
    def is_exact(self) -> bool:
        """Whether the same call is to give the same bits."""
        return bool(self.batch_size or self.deterministic)


_TAKEN_APART = ("streams", "allow_mixed")
"""Options of calls whose images may be computed by several servers."""

_MOST_STREAMS = 256


def _check_streams(value: Any) -> int | str:
    """Return a number of streams, or `auto`. Raises InvalidRequestError."""
    if value == "auto" and isinstance(value, str):
        return "auto"
    wrong = f"`streams` must be a number from 1 to {_MOST_STREAMS} or 'auto', got {told(value)}."
    if isinstance(value, str):
        raise InvalidRequestError(wrong)
    number = as_whole("streams", value)
    if not 1 <= number <= _MOST_STREAMS:
        raise InvalidRequestError(wrong)
    return number


def _one_server(name: str, value: Any) -> str:
    return (
        f"`{name}` must be left out here, got {value!r}: an RDM or a PCA is computed by one "
        "server, where the features of all images meet. Calls that send features take it."
    )


def _rows() -> dict[str, Option]:
    found = {one.name: one for one in fields(ExtractOptions)}
    return {
        name: Option(
            **{"header": name, **found[name].metadata},
            name=name,
            type=str(found[name].type),
            default=found[name].default,
        )
        for name in ExtractArguments.__annotations__
    }


OPTIONS: Mapping[str, Option] = _rows()
"""The table, in the order of signatures."""


def _names(sends_features: bool) -> Iterable[str]:
    return (ExtractArguments if sends_features else ComputeArguments).__annotations__


def shows_options(*, sends_features: bool = True) -> Callable[[F], F]:
    """Return a decorator that shows the options in signature and help of a function.

    The function takes them as `**options`, and hands them to `ExtractOptions.from_call`.
    """
    rows = [OPTIONS[name] for name in _names(sends_features)]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = signature.parameters.values()
        shown = [
            *(one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD),
            *(_parameter(row) for row in rows),
        ]
        function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        function.__doc__ = _with_help(inspect.getdoc(function) or "", rows)
        return function

    return decorate


def _parameter(row: Option) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(row.name, kind, default=row.default, annotation=row.type)


def _with_help(doc: str, rows: Iterable[Option]) -> str:
    """Return a docstring with a line per option at the end of its arguments."""
    lines = "".join(f"    {row.name}: {row.help}\n" for row in rows)
    head, section, rest = doc.partition("\nArgs:\n")
    arguments, blank, after = rest.partition("\n\n")
    if not section:
        return f"{doc}\n\nArgs:\n{lines}"
    arguments = "\n".join(x for x in arguments.splitlines() if not x.startswith("    **"))
    return f"{head}{section}{arguments}\n{lines}{blank and chr(10)}{after}"
