"""What computed features and how, as JSON values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..values.options import OPTIONS, ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.provenance import Provenance
from ..values.reductions import Reduction


@dataclass(frozen=True)
class Request:
    """What a call chose, as far as the values of its features depend on it.

    `batch_size` is what the server made of that of `options`, 0: as many as were ready. `root` is
    the folder of the images' names.
    """

    batch_size: int
    options: ExtractOptions
    root: Path | None = None


def describe(provenance: Provenance, request: Request, kind: str = "encoded") -> dict[str, Any]:
    """Return an origin, as JSON knows it, without module and images; `kind` is that of images."""
    return {
        **provenance.to_dict(),
        "source": provenance.model.source,
        "preprocessing_changes": changes_to_json(request.options.preprocessing),
        "token_extraction": request.options.token_extraction,
        "batch_size": request.batch_size,
        "choices": chosen_options(request.options),
        "extracted": now(),
        "input": kind,
        "image_root": None if request.root is None else str(request.root.absolute()),
    }


def provenance_fields() -> list[str]:
    """Return the names of what a server tells of every extraction, model and device included.

    Which batches it had to split, and which servers computed which rows, is not among them: it says
    nothing of the next extraction.
    """
    of_rows = ("split_batches", "servers")
    return [field.name for field in fields(Provenance) if field.name not in of_rows]


def changes_to_json(
    changes: PreprocessingOverrides | Preprocessing | None,
) -> dict[str, Any] | None:
    """Return changes of the preprocessing as JSON knows them; None: there are none."""
    if changes is None or changes.is_empty:
        return None
    if isinstance(changes, Preprocessing):
        return changes.to_changes()
    values = {field.name: getattr(changes, field.name) for field in fields(changes)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def options_to_json(options: ExtractOptions) -> dict[str, Any]:
    """Return the options that values depend on as JSON values, by name."""
    return {
        name: _option_to_json(value)
        for name, value in vars(options).items()
        if OPTIONS[name].is_of_values
    }


def _option_to_json(value: Any) -> Any:
    if isinstance(value, (PreprocessingOverrides, Preprocessing)):
        return changes_to_json(value)
    return _reduction_to_json(value) if isinstance(value, Reduction) else value


_TOLD_BY_THEMSELVES = ("preprocessing", "token_extraction", "batch_size")
"""Options with a field of their own in an origin."""


def chosen_options(options: ExtractOptions) -> dict[str, Any]:
    """Return the other options that differ from their defaults, as JSON values."""
    return {
        name: value
        for name, value in options_to_json(options).items()
        if name not in _TOLD_BY_THEMSELVES and value != OPTIONS[name].default
    }


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
