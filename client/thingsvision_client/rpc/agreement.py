"""Compares what a client asked for with what the server says it did, before a row is used.

A server that is older than the client ignores fields of a request that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.caller import warn_caller
from ..errors import UnsupportedError
from ..values.options import OPTIONS, Option
from ..values.version import age_text

_DIGEST_LENGTH = 64
_DEFAULTS = {"interpolation": "bilinear", "value_range": "0..1", "channel_order": "RGB"}
"""What a complete preprocessing leaves out, as servers return it."""

_NUMBERS = ("resize_pixels", "crop_pixels", "mean", "std")


@dataclass(frozen=True)
class Answer:
    """What a server says of features: its provenance, and what stands beside it in the reply.

    None means that the reply does not have it: RDMs and PCAs have no element type of features.
    """

    provenance: pb.Provenance
    token_extraction: int
    batch_size: int
    element_types: Sequence[int] | None = None
    modules: Sequence[str] | None = None
    batch_limit: str = ""


@dataclass(frozen=True)
class Difference:
    """What was asked for, and what was done instead, by the name of an argument."""

    name: str
    asked: Any
    given: Any

    def __str__(self) -> str:
        given = "nothing" if self.given in (None, "", [], {}, False, 0) else repr(self.given)
        return f"`{self.name}` {self.asked!r}, got {given}"


def check_answer(
    asked: pb.ExtractHeader, answer: Answer, *, advice: str = "", warns: bool = True
) -> None:
    """Raise UnsupportedError if a server did something else than it was asked for.

    `advice` is a further way out. A lowered batch size is only warned of, if at all.
    """
    found = list(_differences(asked, answer))
    raise_differences(found, answer.provenance.server_version, advice=advice)
    if not warns:
        return
    _warn_of_batch_size(asked, answer)
    _warn_of_cores(asked.cores, answer.provenance.cores)
    _warn_of_part(asked.model, answer.provenance.model)


def check_preprocessing(asked: pb.PreprocessHeader, given: pb.Preprocessing) -> None:
    """Raise UnsupportedError if a server made inputs by another preprocessing than asked for."""
    raise_differences(list(_preprocessing(asked, given)), "")


def raise_differences(found: Sequence[Difference], server: str, *, advice: str = "") -> None:
    """Raise UnsupportedError if there are any; `server` is its version, or empty."""
    if not found:
        return
    names = " and ".join(dict.fromkeys(f"`{one.name.split('.')[0]}`" for one in found))
    listed = "; ".join(map(str, found))
    ways = advice or f"{age_text(server)} Or leave out {names}."
    raise UnsupportedError(f"The server did not do what was asked for: {listed}. {ways}")


def _differences(asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    yield from _model(asked.model, answer.provenance.model)
    if answer.modules is not None and list(asked.modules) != list(answer.modules):
        yield Difference("modules", list(asked.modules), list(answer.modules))
    for option in OPTIONS.values():
        if not option.is_of_values:
            continue
        yield from _CHECKS.get(option.name, _same_field)(option, asked, answer)


def _model(asked: pb.ModelSpec, given: pb.ModelSpec) -> Iterator[Difference]:
    """Yield other weights than asked for; the server spells tags and names in full."""
    for field in ("weights_sha256", "random_seed", "weights_part"):
        wanted, used = getattr(asked, field), getattr(given, field)
        is_chosen = asked.WhichOneof("weights") == field or (field == "weights_part" and wanted)
        is_used = given.WhichOneof("weights") == field or field == "weights_part"
        if is_chosen and not (is_used and wanted == used):
            yield Difference(f"model.{field}", wanted, used if is_used else None)


def _same_field(option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    """Yield the difference of an option that has the same name in the provenance."""
    wanted = getattr(asked, option.header)
    if option.choices is not None:
        wanted = _word(option.choices, wanted) or option.default
    given = getattr(answer.provenance, option.name)
    is_default = not given and wanted == option.default
    if wanted != given and not is_default:
        yield Difference(option.name, wanted, given)


def _batch_size(_option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    """Yield a batch size that is not even one that the server lowered."""
    if asked.batch_size and not 1 <= answer.batch_size <= asked.batch_size:
        yield Difference("batch_size", asked.batch_size, answer.batch_size)


def _deterministic(option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    """Yield the difference if it was asked for: else any way of making batches is right."""
    if asked.deterministic:
        yield from _same_field(option, asked, answer)


def _tokens(option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    words = option.choices or {}
    if asked.token_extraction != answer.token_extraction:
        wanted = _word(words, asked.token_extraction)
        yield Difference(option.name, wanted, _word(words, answer.token_extraction))


def _dtype(option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    words = option.choices or {}
    wanted = _word(words, asked.element_type) or option.default
    for number in answer.element_types or ():
        given = pb.ElementType.Name(number).removeprefix("ELEMENT_TYPE_").lower()
        given = option.default if given == "unspecified" else given
        if given != wanted:
            yield Difference(option.name, wanted, given)
            return


def _reduction(option: Option, asked: pb.ExtractHeader, answer: Answer) -> Iterator[Difference]:
    """Yield the differences, field by field: a PCA's name is its SHA-256 in the provenance."""
    wanted, given = asked.reduction, answer.provenance.reduction
    for field in pb.Reduction.DESCRIPTOR.fields:
        pair = getattr(wanted, field.name), getattr(given, field.name)
        if field.name == "pca" and pair[0] and pair[1]:
            used = answer.provenance.pca
            pair = pair[0], used.sha256 if len(pair[0]) == _DIGEST_LENGTH else used.name
        if pair[0] != pair[1]:
            words = field.enum_type.values_by_number if field.enum_type else None
            shown = (words[one].name.lower() if words and one else _plain(one) for one in pair)
            yield Difference(f"{option.name}.{field.name}", *shown)


def _choose_preprocessing(
    _option: Option, asked: pb.ExtractHeader, answer: Answer
) -> Iterator[Difference]:
    yield from _preprocessing(asked, answer.provenance.preprocessing)


def _preprocessing(
    asked: pb.ExtractHeader | pb.PreprocessHeader, given: pb.Preprocessing
) -> Iterator[Difference]:
    chosen = asked.WhichOneof("input")
    if chosen == "overrides":
        yield from _compare_overrides(asked.overrides, given)
    elif chosen == "preprocessing":
        yield from _compare_complete(asked.preprocessing, given)


def _compare_overrides(
    asked: pb.PreprocessingOverrides, given: pb.Preprocessing
) -> Iterator[Difference]:
    """Yield the differences of the fields that were set."""
    wanted = {field.name: getattr(asked, field.name) for field, _ in asked.ListFields()}
    if len(asked.crop_pixels) == 1:
        wanted["crop_pixels"] = [*asked.crop_pixels, *asked.crop_pixels]
    if wanted.pop("no_crop", False):
        wanted["crop_pixels"] = []
    yield from _compare("preprocessing", wanted, given)


def _compare_complete(asked: pb.Preprocessing, given: pb.Preprocessing) -> Iterator[Difference]:
    """Yield the differences of a preprocessing in the place of the model's own."""
    wanted: dict[str, Any] = {"owner": asked.owner or "user"}
    if asked.steps:
        wanted["steps"] = asked.steps
    else:
        wanted |= {name: getattr(asked, name) for name in _NUMBERS}
        wanted |= {name: getattr(asked, name) or usual for name, usual in _DEFAULTS.items()}
    yield from _compare("preprocessing", wanted, given)


def _compare(name: str, wanted: Mapping[str, Any], given: Any) -> Iterator[Difference]:
    for field, value in wanted.items():
        used = getattr(given, field)
        if _plain(value) != _plain(used):
            yield Difference(f"{name}.{field}", _plain(value), _plain(used))


def _plain(value: Any) -> Any:
    """Return a value of a message as text, number, list or dictionary."""
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True)
    is_repeated = not isinstance(value, str) and hasattr(value, "__iter__")
    return [_plain(one) for one in value] if is_repeated else value


def _word(words: Mapping[str, int], number: int) -> str | None:
    return next((word for word, one in words.items() if one == number), None)


_CHECKS: Mapping[str, Callable[[Option, pb.ExtractHeader, Answer], Iterator[Difference]]] = {
    "batch_size": _batch_size,
    "deterministic": _deterministic,
    "dtype": _dtype,
    "preprocessing": _choose_preprocessing,
    "reduction": _reduction,
    "token_extraction": _tokens,
}
"""Options that don't come back in the provenance as they were sent; all others do."""


def _warn_of_batch_size(asked: pb.ExtractHeader, answer: Answer) -> None:
    """Warn if the server lowered the batch size: bits may differ from other servers'."""
    if 0 < answer.batch_size < asked.batch_size:
        reason = f" because of its limit {answer.batch_limit}" if answer.batch_limit else ""
        warn_caller(
            f"The server lowered batch_size from {asked.batch_size} to {answer.batch_size}"
            f"{reason}. The values are the same, up to rounding in their last bits.",
        )


def _warn_of_cores(asked: pb.Cores, given: pb.Cores) -> None:
    """Warn if passes use other cores than those of the extraction that these images are of."""
    if asked.count and asked != given:
        warn_caller(
            f"The extraction of these images began on {_cores_text(asked)}; this server uses "
            f"{_cores_text(given)}. The values are the same, up to rounding in their last bits.",
        )


def _cores_text(cores: pb.Cores) -> str:
    if not cores.count:
        return "its own number of cores"
    tail = f", and {cores.tail_count} in the last passes" if cores.tail_count else ""
    return f"{cores.count} {'core' if cores.count == 1 else 'cores'} a pass{tail}"


def _warn_of_part(asked: pb.ModelSpec, given: pb.ModelSpec) -> None:
    """Warn if the server took a part of an uploaded file that the user did not name."""
    if given.weights_part and not asked.weights_part:
        warn_caller(
            f"The weights of {given.source}/{given.name} are the part {given.weights_part!r} of "
            "the uploaded file, the only part that fits; "
            f"model_parameters={{'part': {given.weights_part!r}}} of get_extractor says so.",
        )
