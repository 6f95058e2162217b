"""What analyses do to features first: centre, normalise, compress; as new arrays, in memory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Array, as_array
from ..errors import InvalidRequestError, UndefinedDistanceWarning


def center_features(X: npt.ArrayLike) -> Array:  # noqa: N803 - the library's own name
    """Return images x shape minus the mean over images: each unit then has a mean of 0."""
    features = _floats(X)
    centred: Array = features - features.mean(axis=0, dtype=np.float64)
    return centred.astype(features.dtype)


def normalize_features(X: npt.ArrayLike) -> Array:  # noqa: N803
    """Return images x units, each row divided by its length (L2 norm): all lengths are then 1.

    A row of zeros has no direction: it becomes NaN, with an UndefinedDistanceWarning. Raises
    InvalidRequestError for features that are not 2-D.
    """
    features = _rows(X)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    if (zeros := np.flatnonzero(lengths == 0)).size:
        warnings.warn(
            f"Rows {zeros.tolist()} are all zero and have no direction (NaN).",
            UndefinedDistanceWarning,
            stacklevel=2,
        )
        lengths[zeros] = np.nan
    unit: Array = features / lengths
    return unit.astype(features.dtype)


def compress_features(
    X: npt.ArrayLike,  # noqa: N803
    rnd_seed: int | None = None,
    retained_var: float = 0.9,
) -> Array:
    """Return images x components: the fewest principal components with that part of the variance.

    Components are those of the centred features, the largest first; the sign of one is that which
    makes the largest entry of its axis positive. The decomposition is exact (SVD), so that
    `rnd_seed`, which the library has, changes nothing. Raises InvalidRequestError.
    """
    if not 0 < retained_var <= 1:
        raise InvalidRequestError(
            f"retained_var is a part of the variance, from 0 to 1: not {retained_var}."
        )
    features = _rows(X)
    centred = features - features.mean(axis=0, dtype=np.float64)
    left, scales, axes = np.linalg.svd(centred, full_matrices=False)
    if not scales[0]:
        raise InvalidRequestError("All rows are the same: there is no variance to retain.")
    retained = np.cumsum(scales**2) / np.sum(scales**2)
    count = min(int(np.searchsorted(retained, retained_var)) + 1, len(scales))
    largest = np.abs(axes[:count]).argmax(axis=1)
    signs = np.sign(axes[np.arange(count), largest])
    components: Array = left[:, :count] * (scales[:count] * signs)
    return components.astype(features.dtype)


def _floats(values: Any) -> Array:
    array = as_array(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _rows(values: Any) -> Array:
    features = _floats(values)
    if features.ndim != 2 or 0 in features.shape:
        raise InvalidRequestError(
            f"Features are images x units here, not of shape {features.shape}: "
            "flatten them with features.reshape(len(features), -1)."
        )
    return features
