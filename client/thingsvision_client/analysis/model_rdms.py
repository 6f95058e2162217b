"""RDMs of models that a user computed, as `compare_rdms` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Float64Array
from ..calls.arguments import expand_home
from ..errors import InvalidRequestError
from ..labels import (
    Labelled,
    Labels,
    image_labels,
    match_rows,
    of_known,
    read_labelled,
    warn_of_order,
)
from ..rpc.rdms import RDMs
from ..values.records import Timings
from .rdm_faults import first_fault
from .rdm_files import read_rdms
from .rdm_values import as_real_numbers, mirror_upper_half
from .references import Reference

UNKNOWN_METRIC = "unknown"
"""The metric of RDMs that are arrays."""

_UNNAMED = "RDM"


def as_model_rdms(given: Any, references: Sequence[Reference]) -> RDMs:
    """Return RDMs of models, checked, with the rows of all in one order.

    Args:
        given: What `Client.rdm` or `Client.rdm_of` returned; an RDM (images x images), as an array
            or as an object with names; the path of a file; or a mapping from names to RDMs.
        references: What they are compared with: RDMs without names have the references' rows.

    Returns:
        The RDMs of a call as they are; others with the names that they carry or know.

    Raises:
        InvalidRequestError: Anything else, or RDMs of different images.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import compute_rdm
        from thingsvision_client.analysis.model_rdms import as_model_rdms

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(as_model_rdms({"conv1": compute_rdm(features)}, ()).images)
        ```

    """
    if isinstance(given, RDMs):
        return given
    items = {name: _item(name, values) for name, values in _by_name(given).items()}
    if not items:
        raise InvalidRequestError("Pass at least one RDM of a model.")
    matrices = {name: _matrix(name, item) for name, item in items.items()}
    counts = {len(matrix) for matrix in matrices.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{name!r} has {len(matrix)}" for name, matrix in matrices.items())
        raise InvalidRequestError(f"All RDMs of models must have the same images: {listed}.")
    labels = {name: image_labels(item, 2, f"RDM {name!r}") for name, item in items.items()}
    images = _images(labels, references, counts.pop())
    rdms = {name: _in_order(name, matrices[name], labels[name], images) for name in items}
    undefined = {name: _find_undefined(rdm, images) for name, rdm in rdms.items()}
    return RDMs(
        rdms=dict(rdms),
        images=list(images),
        metric=UNKNOWN_METRIC,
        undefined={name: found for name, found in undefined.items() if found},
        provenance=None,
        timings=Timings(0.0, 0.0, 0.0, 0.0),
    )


def _by_name(given: Any) -> dict[str, Any]:
    if isinstance(given, (str, Path)):
        return read_rdms(Path(expand_home(given)))
    if isinstance(given, Mapping):
        return {str(name): values for name, values in given.items()}
    return {_UNNAMED: given}


def _item(name: str, values: Any) -> Labelled:
    if isinstance(values, (str, Path)):
        arrays = read_rdms(Path(expand_home(values)))
        if len(arrays) != 1:
            raise InvalidRequestError(
                f"{values} contains {len(arrays)} arrays ({', '.join(arrays)}): pass the file "
                "without a name."
            )
        values = next(iter(arrays.values()))
    if isinstance(values, RDMs):
        raise InvalidRequestError(
            f"RDM {name!r} must be images x images, got what `Client.rdm` returned: pass it alone, "
            "or its `rdms`."
        )
    if (found := read_labelled(values)) is not None:
        return found
    return of_known(values, 2) or Labelled(values, ((), ()))


def _matrix(name: str, item: Labelled) -> Float64Array:
    rdm = as_real_numbers(f"RDM {name!r}", item.values)
    if rdm.ndim == 3 and len(rdm) == 1:  # an object of rsatoolbox with one RDM
        rdm = rdm[0]
    if rdm.ndim != 2 or rdm.shape[0] != rdm.shape[1]:
        advice = ": scipy.spatial.distance.squareform makes it square" if rdm.ndim == 1 else ""
        raise InvalidRequestError(
            f"RDM {name!r} must be images x images, got shape {rdm.shape}{advice}."
        )
    if (fault := first_fault(rdm[None])) is not None:
        raise InvalidRequestError(f"RDM {name!r} {fault}.")
    return mirror_upper_half(rdm)


def _images(
    labels: Mapping[str, Sequence[Labels]], references: Sequence[Reference], count: int
) -> tuple[str, ...]:
    """Return the names that identify the rows of any RDM; else the references'; else numbers."""
    if (own := _names([one for some in labels.values() for one in some], count)) is not None:
        return own
    given = [one.images for one in references if one.images is not None]
    theirs = [
        *(images for images in given if len(images) == count),
        _names([one for reference in references for one in reference.labels], count),
    ]
    found = next((names for names in theirs if names is not None), None)
    return tuple(map(str, range(count))) if found is None else found


def _names(labels: Sequence[Labels], count: int) -> tuple[str, ...] | None:
    fitting = (one for one in labels if one.are_unique and not one.are_counted)
    named = [one for one in fitting if one.is_main and len(one.names) == count]
    named.sort(key=lambda one: not one.are_texts)
    return named[0].names if named else None


def _in_order(
    name: str, rdm: Float64Array, labels: Sequence[Labels], images: Sequence[str]
) -> Float64Array:
    match = match_rows(labels, images, f"RDM {name!r}")
    if match is None or not match.changes_rows:
        return rdm
    warn_of_order(f"RDM {name!r}", match)
    rows = list(match.rows)
    return rdm[np.ix_(rows, rows)]


def _find_undefined(rdm: Float64Array, images: Sequence[str]) -> list[str]:
    off_diagonal = ~np.eye(len(rdm), dtype=bool)
    lacking = np.isnan(rdm) | ~off_diagonal
    return [image for image, row in zip(images, lacking, strict=True) if row.all()]
