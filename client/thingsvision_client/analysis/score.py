"""One score of an RSA: how well the RDM of a module fits a reference."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Any


@dataclass(frozen=True)
class Score:
    """How well the RDM of one module fits one reference.

    Attributes:
        reference: Name of the reference.
        module: Name of the module.
        score: The correlation; for several subjects, its mean over subjects.
        low: Lower end of the bootstrap interval; None without a bootstrap.
        high: Upper end of the bootstrap interval.
        ceiling_low: Lower bound of the noise ceiling; None without a ceiling.
        ceiling_high: Upper bound of the noise ceiling.
        pair_count: Number of pairs of images that were compared.
        by_subject: The correlation with each subject's RDM.

    Example:
        ```python
        from thingsvision_client import Client, rsa

        brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
        result = rsa("photos", brain, "torchvision/alexnet", "features.3", bootstrap=0)
        score = result.scores[0]
        print(score.reference, score.module, score.score, score.pair_count)
        ```

    """

    reference: str
    module: str
    score: float
    low: float | None = None
    high: float | None = None
    ceiling_low: float | None = None
    ceiling_high: float | None = None
    pair_count: int = 0
    by_subject: tuple[float, ...] = ()


def without_nan(values: Any) -> Any:
    """Return values that JSON can hold: None for NaN, lists for tuples."""
    if isinstance(values, dict):
        return {name: without_nan(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and isnan(values) else values
