"""The RDMs of a figure: checked, with their rows in the same order if they carry names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..arrays import Float64Array, as_floats
from ..errors import InvalidRequestError
from ..labels import (
    Labelled,
    image_labels,
    match_rows,
    of_known,
    read_labelled,
    texts_of,
    warn_of_order,
)

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs


@dataclass(frozen=True)
class PanelValues:
    """RDMs by title, images x images each, the names of their rows, and their metric.

    The names are None if they are not known, the metric if RDMs have several or none.
    """

    values: dict[str, Float64Array]
    names: list[str] | None
    metric: str | None


def read_panels(rdms: RDMs | Mapping[str, Any], images: Sequence[str] | None) -> PanelValues:
    """Return the RDMs to draw; `images` are names of the rows. Raises InvalidRequestError."""
    found, metrics = _by_title(rdms)
    if not found:
        raise InvalidRequestError("Pass at least one RDM to draw.")
    if images is None:
        # Arrays carry no names, but `compute_rdm` knows of which images its rows are.
        found = {
            title: read_labelled(one) or of_known(one, 2) or one for title, one in found.items()
        }
    names = _names(rdms, images) or _find_names(found)
    values = {title: rdm_in_order(title, one, names) for title, one in found.items()}
    for title, one in values.items():
        if one.ndim != 2 or one.shape[0] != one.shape[1] or len(one) < 2:
            raise InvalidRequestError(
                f"RDM {title!r} must be images x images, got shape {one.shape}."
            )
    counts = {title: len(one) for title, one in values.items()}
    if len(set(counts.values())) > 1:
        raise InvalidRequestError(f"RDMs must have the same number of images, got {counts}.")
    count = next(iter(counts.values()))
    if names is not None and len(names) != count:
        raise InvalidRequestError(f"`images` must have a name per row ({count}), got {len(names)}.")
    return PanelValues(values, names, metrics.pop() if len(metrics) == 1 else None)


def _by_title(rdms: RDMs | Mapping[str, Any]) -> tuple[dict[str, Any], set[str | None]]:
    if not isinstance(rdms, Mapping):
        return dict(rdms.rdms), {rdms.metric}
    found: dict[str, Any] = {}
    metrics: set[str | None] = set()
    for title, one in rdms.items():
        if not _is_record(one):
            found[str(title)] = one
            metrics.add(None)
            continue
        alone = len(one.rdms) == 1
        found |= {title if alone else f"{title} {name}": rdm for name, rdm in one.rdms.items()}
        metrics.add(one.metric)
    return found, metrics


def _names(rdms: RDMs | Mapping[str, Any], images: Sequence[str] | None) -> list[str] | None:
    records = rdms.values() if isinstance(rdms, Mapping) else [rdms]
    known = [list(one.images) for one in records if _is_record(one)]
    if images is None and known and any(one != known[0] for one in known):
        raise InvalidRequestError("RDMs must have the same images in the same order.")
    return list(texts_of(images)) if images is not None else next(iter(known), None)


def _find_names(found: Mapping[str, Any]) -> list[str] | None:
    """Return the names that the first RDM with names carries."""
    for title, one in found.items():
        item = read_labelled(one)
        labels = () if item is None else image_labels(item, 2, f"RDM {title!r}")
        for names in labels:
            if names.are_texts and names.are_unique and not names.are_counted:
                return list(names.names)
    return None


def rdm_in_order(title: str, one: Any, names: Sequence[str] | None) -> Float64Array:
    """Return an RDM with its rows in the order of the names, if it carries names itself.

    `title` is for errors. Raises InvalidRequestError if the names don't match.
    """
    what = f"RDM {title!r}"
    item = read_labelled(one) or Labelled(one, ((), ()))
    values = as_floats(item.values, what)
    if values.ndim == 3 and len(values) == 1:  # of one subject, as rsatoolbox has it
        values = values[0]
    match = match_rows(image_labels(item, 2, what), names, what) if names else None
    if match is None or not match.changes_rows:
        return values
    warn_of_order(what, match)
    rows = list(match.rows)
    return values[rows][:, rows]


def _is_record(one: Any) -> bool:
    return isinstance(getattr(one, "rdms", None), Mapping)
