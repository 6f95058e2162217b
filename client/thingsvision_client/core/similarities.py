"""Similarities of rows, under the names that the original library gives them; float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, as_floats
from ..calls.signatures import check_arguments
from .cka import CKA
from .metrics import squared_euclidean
from .rsa import compute_rdm


@check_arguments
def correlation_matrix(
    F: npt.ArrayLike,  # noqa: N803 - the library's own name
    a_min: float = -1.0,
    a_max: float = 1.0,
) -> Float64Array:
    """Return Pearson's r of each pair of rows.

    Args:
        F: Features, images x units.
        a_min: Lower limit of the values.
        a_max: Upper limit of the values.

    Returns:
        Images x images, with NaN for rows without variance.

    Raises:
        InvalidRequestError: Features that are not 2-D.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.rsa.helpers import correlation_matrix

        print(correlation_matrix(np.random.default_rng(0).normal(size=(3, 50))))
        ```

    """
    return np.clip(1.0 - compute_rdm(F, "correlation"), a_min, a_max)


@check_arguments
def cosine_matrix(
    F: npt.ArrayLike,  # noqa: N803 - the library's own name
    a_min: float = -1.0,
    a_max: float = 1.0,
) -> Float64Array:
    """Return the cosine of the angle between each pair of rows.

    Args:
        F: Features, images x units.
        a_min: Lower limit of the values.
        a_max: Upper limit of the values.

    Returns:
        Images x images, with NaN for rows of zeros.

    Raises:
        InvalidRequestError: Features that are not 2-D.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.rsa.helpers import cosine_matrix

        print(cosine_matrix(np.random.default_rng(0).normal(size=(3, 50))))
        ```

    """
    return np.clip(1.0 - compute_rdm(F, "cosine"), a_min, a_max)


@check_arguments
def gaussian_kernel(F: npt.ArrayLike) -> Float64Array:  # noqa: N803 - the library's own name
    """Return exp(-D / mean(D)), where D are the squared distances of all pairs of rows.

    Args:
        F: Features, images x units.

    Returns:
        Images x images.

    Raises:
        InvalidRequestError: Features that are not 2-D.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.rsa.helpers import gaussian_kernel

        print(gaussian_kernel(np.random.default_rng(0).normal(size=(3, 50))))
        ```

    """
    return 1.0 - compute_rdm(F, "gaussian")


@check_arguments
def squared_dists(F: npt.ArrayLike) -> Float64Array:  # noqa: N803 - the library's own name
    """Return the squared Euclidean distance of each pair of rows.

    Args:
        F: Features, images x units.

    Returns:
        Images x images.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.rsa.helpers import squared_dists

        print(squared_dists(np.random.default_rng(0).normal(size=(3, 50))))
        ```

    """
    return squared_euclidean(as_floats(F, "Features"))


def cka_torch(
    m: int,
    kernel: str,
    unbiased: bool = False,
    device: str = "cpu",
    verbose: bool = False,
    sigma: float | None = 1.0,
) -> CKA:
    """Return what `get_cka` does, with the parameters of the library's `CKATorch`.

    Args:
        m: Number of images.
        kernel: `linear` or `rbf`.
        unbiased: Use the unbiased estimator of HSIC.
        device: Has no effect.
        verbose: Has no effect.
        sigma: Width of `rbf`.

    Returns:
        A CKA, which computes with numpy in float64.

    Raises:
        InvalidRequestError: As `get_cka`.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.core.cka.cka_torch import CKATorch

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(CKATorch(m=10, kernel="linear", device="cpu").compare(features, features))
        ```

    """
    return CKA(m, kernel=kernel, unbiased=unbiased, sigma=sigma)
