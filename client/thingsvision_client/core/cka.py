"""Centred kernel alignment: how similar two spaces of features are.

Kornblith et al. 2019, "Similarity of neural network representations revisited"; the unbiased
estimator is that of Song et al. 2012 in the form of Székely & Rizzo 2014 (U-centring).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, as_floats
from ..calls.arguments import as_whole, choose
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..labels import align_rows
from ..old_paths import add_old_paths
from .metrics import squared_euclidean

BACKENDS = ("numpy", "torch")

_MIN_IMAGES = {False: 2, True: 4}
"""The smallest number of images that the biased and the unbiased score are defined for."""


@check_arguments
@dataclass(frozen=True)
class CKA:
    """Compares features of the same images by centred kernel alignment, in float64.

    Args:
        m: Number of images: at least 2, and 4 if `unbiased`.
        kernel: `linear` or `rbf`.
        unbiased: Use the unbiased estimator of HSIC.
        sigma: Width of `rbf`; None means the square root of the median of all non-zero squared
            distances.

    Raises:
        InvalidRequestError: An unknown kernel, too few images, or a `sigma` that is not positive.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.cka import CKA

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(CKA(m=10, kernel="rbf", sigma=None).compare(features, features[:, :20]))
        ```

    """

    m: int
    kernel: str = "linear"
    unbiased: bool = False
    sigma: float | None = 1.0

    def __post_init__(self) -> None:
        choose("kernel", self.kernel, KERNELS)
        object.__setattr__(self, "m", as_whole("m", self.m))
        if self.sigma is not None and not isinstance(self.sigma, Real):
            raise InvalidRequestError(f"`sigma` must be a number or None, got {self.sigma!r}.")
        if self.sigma is not None and not self.sigma > 0:
            raise InvalidRequestError(f"`sigma` must be greater than 0 or None, got {self.sigma}.")
        if self.m < _MIN_IMAGES[self.unbiased]:
            raise InvalidRequestError(
                f"`m` must be at least {_MIN_IMAGES[self.unbiased]} images, got {self.m}."
            )

    def compare(self, X: npt.ArrayLike, Y: npt.ArrayLike) -> np.float64:  # noqa: N803
        """Return HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)), where HSIC is trace(K H L H).

        K and L are the Gram matrices of X and Y, so the numbers of units may differ.

        Args:
            X: Features, m images x units.
            Y: Features of the same images, m x units. Rows are matched by name if both have names
                (tables of pandas, arrays of xarray); otherwise they must be in the same order.

        Returns:
            The similarity, a float that also has `item()`; NaN if `X` or `Y` has no variance.

        Raises:
            InvalidRequestError: An array that is not m images x units.

        Example:
            ```python
            from thingsvision_client import Client, get_cka

            modules = ["features.10", "classifier.5"]
            found = Client().extract("torchvision/alexnet", "photos", modules, flatten=True)
            cka = get_cka("numpy", m=len(found.images))
            print(cka.compare(*found.features.values()))
            ```

        """
        x, y = align_rows(X, Y, axes=1, what="X and Y")
        first, second = self._center_gram("X", x), self._center_gram("Y", y)
        scale = np.sum(first * first) * np.sum(second * second)
        return np.float64(np.sum(first * second) / sqrt(scale) if scale > 0 else np.nan)

    def _center_gram(self, name: str, features: Any) -> Float64Array:
        x = as_floats(features, name)
        if x.ndim != 2 or len(x) != self.m:
            advice = (
                f"m must be the number of images: get_cka(..., m={len(x)})"
                if x.ndim == 2
                else "flatten it with features.reshape(len(features), -1)"
            )
            raise InvalidRequestError(
                f"{name} must be {self.m} images (m) x units, got shape {x.shape}: {advice}."
            )
        gram = KERNELS[self.kernel](x, self.sigma)
        return _u_center(gram) if self.unbiased else _center(gram)


@check_arguments
def get_cka(
    backend: str,
    m: int,
    kernel: str = "linear",
    unbiased: bool = False,
    sigma: float | None = 1.0,
    device: Any = None,
    verbose: bool = False,
) -> CKA:
    """Return an object that compares features of `m` images by centred kernel alignment.

    Args:
        backend: `numpy` or `torch`, as in the library; here both compute with numpy in float64 on
            this machine.
        m: Number of images: at least 2, and 4 if `unbiased`.
        kernel: `linear` or `rbf`.
        unbiased: Use the unbiased estimator of HSIC.
        sigma: Width of `rbf`; None means the square root of the median of all non-zero squared
            distances.
        device: Has no effect.
        verbose: Has no effect.

    Returns:
        A CKA, whose method `compare` takes two arrays of m images x units.

    Raises:
        InvalidRequestError: An unknown backend or kernel, too few images, or a `sigma` that is not
            positive.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import get_cka

        features = np.random.default_rng(0).normal(size=(10, 50))
        cka = get_cka("numpy", m=10, kernel="linear", unbiased=True)
        print(cka.compare(features, features[:, :20]))
        ```

    """
    choose("backend", backend, BACKENDS)
    return CKA(m, kernel=kernel, unbiased=unbiased, sigma=sigma)


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


def _center(gram: Float64Array) -> Float64Array:
    means = gram.mean(axis=0)
    centred: Float64Array = gram - means - means[:, None] + means.mean()
    return centred


def _u_center(gram: Float64Array) -> Float64Array:
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


add_old_paths(__name__)
