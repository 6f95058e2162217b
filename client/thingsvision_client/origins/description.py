"""What computed features and how, in words that JSON knows; knows no images and no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.reductions import FeatureOptions

if TYPE_CHECKING:
    from ..values.preprocessing import PreprocessingOverrides
    from ..values.provenance import Provenance
    from ..values.reductions import Reduction


@dataclass(frozen=True)
class Request:
    """What a call chose, as far as the values of its features depend on it.

    `batch_size` is what the server made of it, 0: as many as were ready. `changes` are those of
    the model's own preprocessing, `root` is the folder of the images' names, `choices` are further
    arguments of `Client.extract` other than usual, as `chosen_options` returns them.
    """

    batch_size: int
    token_extraction: str | None = None
    changes: PreprocessingOverrides | None = None
    root: Path | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)


def describe(provenance: Provenance, request: Request, kind: str = "encoded") -> dict[str, Any]:
    """Return an origin, as JSON knows it, without module and images; `kind` is that of images."""
    return {
        **provenance.to_dict(),
        "source": provenance.model.source,
        "preprocessing_changes": changes_to_json(request.changes),
        "token_extraction": request.token_extraction,
        "batch_size": request.batch_size,
        "choices": dict(request.choices),
        "extracted": now(),
        "input": kind,
        "image_root": None if request.root is None else str(request.root.absolute()),
    }


def provenance_fields() -> list[str]:
    """Return the names of what a server tells of every extraction, model and device included."""
    from ..values.provenance import Provenance

    return [field.name for field in fields(Provenance)]


def changes_to_json(changes: PreprocessingOverrides | None) -> dict[str, Any] | None:
    """Return changes of the preprocessing as JSON knows them; None: there are none."""
    if changes is None or changes.is_empty:
        return None
    values = {field.name: getattr(changes, field.name) for field in fields(changes)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def options_to_json(options: FeatureOptions) -> dict[str, Any]:
    """Return how features were computed and sent, as JSON knows it."""
    reduction = options.reduction
    return {
        **vars(options),
        "reduction": None if reduction is None else _reduction_to_json(reduction),
    }


def chosen_options(options: FeatureOptions) -> dict[str, Any]:
    """Return the same of what is other than usual."""
    usual = vars(FeatureOptions())
    told = options_to_json(options)
    return {name: value for name, value in told.items() if value != usual[name]}


def _reduction_to_json(reduction: Reduction) -> dict[str, Any]:
    """Return a reduction's fields, without those that it leaves out."""
    values = {field.name: getattr(reduction, field.name) for field in fields(reduction)}
    return {name: _plain(value) for name, value in values.items() if value not in (None, ())}


def now() -> str:
    """Return the time, as UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else [_plain(one) for one in value]
