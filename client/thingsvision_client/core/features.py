"""Preparation of features for analyses: centre, normalise, compress; returns new arrays."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Array, as_numbers, shape_advice
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError, UndefinedDistanceWarning
from ..labels import keep_rows


@check_arguments
def center_features(X: npt.ArrayLike) -> Array:  # noqa: N803 - the library's own name
    """Return features minus their mean over images, so that each unit has a mean of 0.

    Args:
        X: Features, images x any shape.

    Returns:
        A new array of the same shape and type; integers become float64.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import center_features

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(center_features(features).mean(axis=0))
        ```

    """
    features = _floats(X)
    centred: Array = features - features.mean(axis=0, dtype=np.float64)
    return keep_rows(X, centred.astype(features.dtype))


@check_arguments
def normalize_features(X: npt.ArrayLike) -> Array:  # noqa: N803
    """Return features with each row divided by its length (L2 norm), so that all lengths are 1.

    Args:
        X: Features, images x units.

    Returns:
        A new array of the same shape and type; integers become float64. A row of zeros has no
        direction and becomes NaN.

    Raises:
        InvalidRequestError: Features that are not 2-D.

    Warns:
        UndefinedDistanceWarning: Names the rows of zeros.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import normalize_features

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(np.linalg.norm(normalize_features(features), axis=1))
        ```

    """
    features = _rows(X)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    if (zeros := np.flatnonzero(lengths == 0)).size:
        warn_caller(
            f"Rows {zeros.tolist()} are all zero and can't be normalized: they are NaN.",
            UndefinedDistanceWarning,
        )
        lengths[zeros] = np.nan
    unit: Array = features / lengths
    return keep_rows(X, unit.astype(features.dtype))


@check_arguments
def compress_features(
    X: npt.ArrayLike,  # noqa: N803
    rnd_seed: int | None = None,
    retained_var: float = 0.9,
) -> Array:
    """Return the fewest principal components that explain a given part of the variance.

    The decomposition is exact (SVD of the centred features). The sign of a component is chosen so
    that the largest entry of its axis is positive.

    Args:
        X: Features, images x units.
        rnd_seed: Has no effect; the library's randomised PCA needs it.
        retained_var: Part of the variance to explain, above 0 and at most 1.

    Returns:
        Scores, images x components, in the type of `X`, the component of most variance first.

    Raises:
        InvalidRequestError: Features that are not 2-D or do not vary, or a `retained_var` out of
            range.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import compress_features

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(compress_features(features, retained_var=0.9).shape)
        ```

    """
    if not isinstance(retained_var, Real) or not 0 < retained_var <= 1:
        raise InvalidRequestError(
            f"`retained_var` must be above 0 and at most 1, got {retained_var!r}."
        )
    features = _rows(X)
    _check_finite(features)
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    if not np.isfinite(np.square(centred).sum()):
        raise InvalidRequestError(
            "Features must not be so large that their squares overflow: divide them by their "
            "largest value."
        )
    left, scales, axes = np.linalg.svd(centred, full_matrices=False)
    if not scales[0]:
        raise InvalidRequestError("All rows are equal, so there is no variance to retain.")
    retained = np.cumsum(scales**2) / np.sum(scales**2)
    count = min(int(np.searchsorted(retained, retained_var)) + 1, len(scales))
    largest = np.abs(axes[:count]).argmax(axis=1)
    signs = np.sign(axes[np.arange(count), largest])
    components: Array = left[:, :count] * (scales[:count] * signs)
    return keep_rows(X, components.astype(features.dtype))


def _check_finite(features: Array) -> None:
    if not np.isfinite(features).all():
        rows = np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist()
        raise InvalidRequestError(
            f"Features must be finite to be compressed, got NaN or infinity in rows {rows}: leave "
            "these rows out."
        )


def _floats(values: Any) -> Array:
    """Return features as they are if they are floats, else as float64."""
    array = as_numbers(values, "Features")
    if not array.ndim or 0 in array.shape:
        raise InvalidRequestError(
            f"Features must be images x units, at least one image, got shape {array.shape}."
        )
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _rows(values: Any) -> Array:
    features = _floats(values)
    if features.ndim != 2 or 0 in features.shape:
        raise InvalidRequestError(
            f"Features must be images x units here, got shape {features.shape}: "
            f"{shape_advice(features.shape)}."
        )
    return features
