"""Centred kernel alignment: how alike two spaces of features are; knows no server.

Kornblith et al. 2019, "Similarity of neural network representations revisited"; the unbiased
estimator is that of Song et al. 2012 in the form of Székely & Rizzo 2014 (U-centring).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, as_array
from ..errors import InvalidRequestError
from .metrics import squared_euclidean

BACKENDS = ("numpy", "torch")

_FEWEST = {False: 2, True: 4}
"""The fewest images that a score is defined for: biased, unbiased."""


@dataclass(frozen=True)
class CKA:
    """Compares features of the same `m` images, in float64.

    `kernel` is a name in KERNELS. `unbiased` takes the unbiased estimator of HSIC. `sigma` is the
    width of `rbf`; None: the square root of the median of all squared distances that are not 0.
    """

    m: int
    kernel: str = "linear"
    unbiased: bool = False
    sigma: float | None = 1.0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise InvalidRequestError(
                f"There is no kernel {self.kernel!r}; valid: {', '.join(KERNELS)}."
            )
        if self.sigma is not None and not self.sigma > 0:
            raise InvalidRequestError(f"sigma is greater than 0, or None; not {self.sigma}.")
        if self.m < _FEWEST[self.unbiased]:
            raise InvalidRequestError(
                f"CKA needs {_FEWEST[self.unbiased]} images or more, not {self.m}."
            )

    def compare(self, X: npt.ArrayLike, Y: npt.ArrayLike) -> float:  # noqa: N803
        """Return HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of two arrays of m images x units.

        HSIC is trace(K H L H) of their Gram matrices, which are all that is compared, so that
        units may differ. NaN where one space has no variance. Raises InvalidRequestError.
        """
        first, second = self._centred("X", X), self._centred("Y", Y)
        scale = np.sum(first * first) * np.sum(second * second)
        return float(np.sum(first * second) / sqrt(scale)) if scale > 0 else float("nan")

    def _centred(self, name: str, features: Any) -> Float64Array:
        x = as_array(features).astype(np.float64)
        if x.ndim != 2 or len(x) != self.m:
            raise InvalidRequestError(
                f"{name} is {self.m} images (m) x units, not of shape {x.shape}; "
                "features.reshape(len(features), -1) flattens."
            )
        gram = KERNELS[self.kernel](x, self.sigma)
        return _u_centred(gram) if self.unbiased else _centred(gram)


def get_cka(
    backend: str,
    m: int,
    kernel: str = "linear",
    unbiased: bool = False,
    sigma: float | None = 1.0,
    device: str | None = None,
    verbose: bool = False,
) -> CKA:
    """Return what compares features of `m` images by centred kernel alignment; see CKA.

    Both backends of the library, `numpy` and `torch`, give the same here: numpy computes in
    float64, on this machine. So `device` and `verbose` change nothing. Raises InvalidRequestError.
    """
    if backend not in BACKENDS:
        raise InvalidRequestError(f"There is no backend {backend!r}; valid: {', '.join(BACKENDS)}.")
    return CKA(m, kernel, unbiased, sigma)


def _linear(x: Float64Array, _sigma: float | None) -> Float64Array:
    gram: Float64Array = x @ x.T
    return gram


def _rbf(x: Float64Array, sigma: float | None) -> Float64Array:
    distances = squared_euclidean(x)
    different = distances[distances > 0]
    if sigma is None and not different.size:  # all images are the same
        return np.ones_like(distances)
    width = np.median(different) if sigma is None else sigma**2
    gram: Float64Array = np.exp(-distances / (2 * width))
    return gram


def _centred(gram: Float64Array) -> Float64Array:
    means = gram.mean(axis=0)
    centred: Float64Array = gram - means - means[:, None] + means.mean()
    return centred


def _u_centred(gram: Float64Array) -> Float64Array:
    count = len(gram)
    hollow = gram - np.diag(np.diagonal(gram))
    means = hollow.sum(axis=0) / (count - 2)
    means -= means.sum() / (2 * (count - 1))
    centred: Float64Array = hollow - means - means[:, None]
    np.fill_diagonal(centred, 0.0)
    return centred


KERNELS: dict[str, Callable[[Float64Array, float | None], Float64Array]] = {
    "linear": _linear,
    "rbf": _rbf,
}
"""Gram matrices, N x N, of N x P features."""
