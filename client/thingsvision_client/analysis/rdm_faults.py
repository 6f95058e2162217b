"""What is wrong with an array that should be RDMs, as the rest of a sentence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..arrays import Float64Array


def wrong_shape(shape: tuple[int, ...]) -> str:
    """Return what is wrong with a shape."""
    fault = f"must be images x images or subjects x images x images, got shape {shape}"
    if len(shape) == 3 and shape[0] == shape[1]:
        return f"{fault}: subjects must come first, as np.moveaxis(rdms, -1, 0) puts them"
    if len(shape) == 1:
        return f"{fault}: scipy.spatial.distance.squareform makes it square"
    if len(shape) == 2 and shape[1] == 3 and shape[0] > 3:
        return (
            f"{fault}: make a table of pairs square, such as by pandas' "
            "table.pivot(index=..., columns=..., values=...)"
        )
    return fault


def first_fault(rdms: Float64Array) -> str | None:
    """Return what is wrong with RDMs, subjects x images x images; None if nothing is."""
    found = (fault(rdms) for fault in (_too_few, _infinite, _asymmetric, _similar))
    return next((what for what in found if what is not None), None)


def _too_few(rdms: Float64Array) -> str | None:
    count = rdms.shape[1]
    return None if count >= 3 else f"must have at least 3 images, got {count}"


def _infinite(rdms: Float64Array) -> str | None:
    found = np.argwhere(np.isinf(rdms))
    return f"is infinite at {_place(found[0])}: use NaN to leave out a pair" if len(found) else None


def _asymmetric(rdms: Float64Array) -> str | None:
    largest = np.nanmax(np.abs(rdms), initial=0.0)
    mirrored = rdms.transpose(0, 2, 1)
    same = np.isclose(rdms, mirrored, rtol=1e-5, atol=1e-6 * largest, equal_nan=True)
    if same.all():
        return None
    subject, row, column = np.argwhere(~same)[0]
    there, back = rdms[subject, row, column], rdms[subject, column, row]
    at, mirrored_at = _place((subject, row, column)), _place((subject, column, row))
    return f"must be symmetric, got {there:g} at {at}, but {back:g} at {mirrored_at}"


def _similar(rdms: Float64Array) -> str | None:
    """Find similarities instead of dissimilarities: no image differs most from itself."""
    diagonal = np.einsum("sii->si", rdms)
    if np.any(diagonal > 0) and np.all(diagonal[:, :, None] >= np.nan_to_num(rdms, nan=-np.inf)):
        return "has its largest values on the diagonal, so it contains similarities: pass 1 - rdm"
    return None


def _place(index: Iterable[int]) -> str:
    subject, row, column = index
    return f"[{row}, {column}]" + (f" of subject {subject}" if subject else "")
