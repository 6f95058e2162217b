"""Statistics of RSA, all of them rsatoolbox's, on arrays.

Nili et al. 2014, "A toolbox for representational similarity analysis"; Schütt et al. 2023,
"Statistical inference on representational geometries".
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array
from ..calls.caller import warn_caller
from ..core.rsa import CORRELATIONS, correlate
from ..errors import InvalidRequestError, MissingDependencyError, UndefinedDistanceWarning

Flags = npt.NDArray[np.bool_]

COMPARISONS = {
    "pearson": "corr",
    "spearman": "spearman",
    "kendall": "kendall",
    "tau-a": "tau-a",
    "rho-a": "rho-a",
    "cosine": "cosine",
    "corr_cov": "corr_cov",
    "cosine_cov": "cosine_cov",
}
"""How RDMs are compared, with rsatoolbox's names: `kendall` is tau-b, `*_cov` are whitened."""


@dataclass(frozen=True)
class Bootstrap:
    """The number of samples of images, drawn with replacement, and the interval of the scores.

    `confidence` of the interval is between 0 and 1; the same `seed` draws the same images.
    """

    samples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise InvalidRequestError(
                f"`confidence` must be between 0 and 1, got {self.confidence}."
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidRequestError(f"`seed` must be from 0 to 2**32 - 1, got {self.seed}.")
        if self.samples < self.min_samples:
            raise InvalidRequestError(
                f"`bootstrap` must be at least {self.min_samples} for an interval of "
                f"{self.confidence:.0%}, got {self.samples}."
            )

    @property
    def min_samples(self) -> int:
        """The smallest number of samples of which one lies outside the interval on either side."""
        return ceil(2 / (1 - self.confidence) - 1e-9)


def check_comparison(name: str) -> None:
    """Raise InvalidRequestError for a name that is not in COMPARISONS.

    MissingDependencyError if it needs rsatoolbox, which is not installed.
    """
    if name not in COMPARISONS:
        raise InvalidRequestError(
            f"`correlation` must be one of {', '.join(COMPARISONS)}, got {name!r}."
        )
    if name not in CORRELATIONS:
        require_rsatoolbox(f"The correlation {name!r}")


def require_rsatoolbox(what: str) -> Any:
    """Return the package. Raises MissingDependencyError, which says what needs it."""
    try:
        import rsatoolbox.inference
        import rsatoolbox.model
        import rsatoolbox.rdm
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs rsatoolbox: pip install 'thingsvision-service[rsa]'"
        ) from error
    return rsatoolbox


def scores_by_subject(
    rdm: Float64Array, subjects: Float64Array, pairs: Flags, correlation: str
) -> list[float]:
    """Return the correlations of an RDM (N x N) with subjects x N x N, over some pairs of images.

    NaN if an RDM has no variance. Pearson's and Spearman's don't need rsatoolbox.
    """
    upper = np.triu(pairs, k=1)
    if correlation in CORRELATIONS:
        return [correlate(rdm[upper], one[upper], correlation) for one in subjects]
    toolbox = require_rsatoolbox(f"The correlation {correlation!r}")
    first, second = _mask(rdm, pairs)[None], _mask(subjects, pairs)
    with np.errstate(invalid="ignore"):
        found = toolbox.rdm.compare(
            toolbox.rdm.RDMs(first), toolbox.rdm.RDMs(second), COMPARISONS[correlation]
        )
    return [float(score) for score in found[0]]


def interval(
    rdm: Float64Array,
    subjects: Float64Array,
    pairs: Flags,
    *,
    correlation: str,
    bootstrap: Bootstrap,
) -> tuple[float, float]:
    """Return the bootstrap interval, over images, of an RDM's mean correlation with the subjects.

    Percentiles of rsatoolbox's eval_bootstrap_pattern; arrays are as in `scores_by_subject`. Only
    the seed decides which images are drawn, so all RDMs get the same samples. Warns of samples
    without a score, which are left out.
    """
    toolbox = require_rsatoolbox("A bootstrap (which bootstrap=0 leaves out)")
    model = toolbox.model.ModelFixed("module", _mask(rdm, pairs))
    data = toolbox.rdm.RDMs(_mask(subjects, pairs))
    with _numpy_seed(bootstrap.seed), _quiet(), np.errstate(invalid="ignore"):
        result = toolbox.inference.eval_bootstrap_pattern(
            [model],
            data,
            method=COMPARISONS[correlation],
            N=bootstrap.samples,
            boot_noise_ceil=False,
        )
    result.evaluations = _drop_undefined(result.evaluations, bootstrap)
    low, high = result.get_ci(bootstrap.confidence, test_type="bootstrap")
    return float(low[0]), float(high[0])


def noise_ceiling(subjects: Float64Array, pairs: Flags, correlation: str) -> tuple[float, float]:
    """Return the lower and upper bound of what a perfect model could score.

    rsatoolbox's boot_noise_ceiling: the mean correlation of each subject of S x N x N with the
    best RDM of the others, and with the best RDM of all.
    """
    toolbox = require_rsatoolbox("A noise ceiling (which noise_ceiling=False leaves out)")
    data = toolbox.rdm.RDMs(_mask(subjects, pairs))
    lower, upper = toolbox.inference.boot_noise_ceiling(data, method=COMPARISONS[correlation])
    return float(lower), float(upper)


def _mask(rdms: Float64Array, pairs: Flags) -> Float64Array:
    """Leave out pairs as rsatoolbox does: as NaN, in both RDMs."""
    return np.where(pairs | np.eye(len(pairs), dtype=bool), rdms, np.nan)


def _drop_undefined(evaluations: Any, bootstrap: Bootstrap) -> Any:
    found = evaluations[np.isfinite(evaluations).all(axis=1)]
    if len(found) < len(evaluations):
        warn_caller(
            f"{len(evaluations) - len(found)} of {len(evaluations)} bootstrap samples have too few "
            "different images for a score and are left out.",
            UndefinedDistanceWarning,
        )
    if len(found) < bootstrap.min_samples:
        raise InvalidRequestError(
            f"Only {len(found)} of {len(evaluations)} bootstrap samples have a score: use more "
            "images, or leave out the interval with bootstrap=0."
        )
    return found


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which rsatoolbox draws from, and restore its state."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep rsatoolbox's progress bar from stderr, but not its warnings.

    Except one: that ceilings of Kendall's tau use averaged ranks, when no ceiling is asked for.
    """
    with warnings.catch_warnings(record=True) as caught, redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", "Noise ceiling for tau")
        yield
    for warning in caught:
        warnings.warn_explicit(
            str(warning.message), warning.category, warning.filename, warning.lineno
        )
