"""Describes fitted PCAs, checks whether features fit them, and computes scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.compute_options import ComputeOptions
from ...errors import PCAMismatchError, format_shape
from ...inputs import Preprocessing
from ...rdm.computation import FLOAT64
from ..reduction import Reduction
from ..splits import SplitBatch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FeatureFacts:
    """What features of an image and a module depend on; a PCA needs features with equal facts."""

    model: str
    """Its id, `source/name@weights`."""
    model_sha256: str
    preprocessing: Preprocessing
    token_extraction: str
    options: ComputeOptions
    reduction: Reduction
    """The reduction before the PCA."""

    def differences(self, asked: FeatureFacts) -> list[str]:
        """Return the differences from a request's facts, with both values."""
        found = []
        if self.model_sha256 != asked.model_sha256:
            models = [f"{one.model} (SHA-256 {one.model_sha256})" for one in (self, asked)]
            found.append(f"model was {models[0]} and is {models[1]} here")
        mine, other = (one.to_dict() for one in (self, asked))
        for name in mine:
            found += _find_differences(name, mine[name], other[name])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all facts but the model, which is compared by its SHA-256."""
        return {
            "preprocessing": asdict(self.preprocessing),
            "token_extraction": self.token_extraction,
            **self.options.to_dict(),
            "reduction": asdict(self.reduction),
        }


def _find_differences(name: str, mine: Any, other: Any) -> Iterator[str]:
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
        for key in mine:
            yield from _find_differences(f"{name}.{key}", mine[key], other[key])
    elif mine != other:
        yield f"{name} was {_format_value(mine)} and is {_format_value(other)} here"


def _format_value(value: Any) -> str:
    return "none" if value in ("", (), None) else " ".join(str(value).split())


@dataclass(frozen=True)
class PCAModule:
    """The components of one module; variances and arithmetic as in `rdm.pca.Components`."""

    name: str
    shape: tuple[int, ...]
    """Shape of one image's features before the PCA."""
    explained_variance: tuple[float, ...]
    explained_variance_ratio: tuple[float, ...]
    arithmetic: str = FLOAT64


@dataclass(frozen=True)
class PCADescription:
    """Everything about a PCA but its arrays."""

    name: str
    """The name that its user chose; empty: none."""
    component_count: int
    image_count: int
    images_sha256: str
    """Of the lines `SHA-256  name` of all images."""
    facts: FeatureFacts
    modules: tuple[PCAModule, ...]
    batch_size: int
    deterministic: bool
    device: str
    framework: str
    server_version: str
    split_batches: tuple[SplitBatch, ...] = ()
    """Images whose passes had fewer images than their batch."""
    cores: Mapping[str, int] | None = None
    """The fields of the plan of cores of its passes; None: the request did not decide them."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one image's features before the PCA, by module."""
        return {module.name: module.shape for module in self.modules}

    @property
    def least_bytes(self) -> int:
        """Return what the arrays take at least: means of 8 bytes, axes of 4 bytes."""
        columns = [prod(shape) for shape in self.shapes.values()]
        return sum(each * (8 + 4 * min(self.component_count, each)) for each in columns)

    def mismatches(self, facts: FeatureFacts, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return why the PCA does not fit features with these facts and shapes by module."""
        found = self.facts.differences(facts)
        mine = self.shapes
        if other := [name for name in shapes if name not in mine]:
            asked, fitted = ", ".join(map(repr, other)), ", ".join(map(repr, mine))
            found.insert(0, f"module was {fitted} and is {asked} here")
        return found + [
            f"the shape of {name!r} was {format_shape(mine[name])} and is "
            f"{format_shape(shape)} here"
            for name, shape in shapes.items()
            if name in mine and mine[name] != shape
        ]


@dataclass(frozen=True)
class PCARecord:
    """A stored PCA, without its arrays."""

    sha256: str
    """SHA-256 of its file."""
    description: PCADescription
    size_bytes: int
    fitted_at: float
    """Seconds since 1970, UTC."""
    name: str = field(default="", compare=False)
    """What the person who asks calls it, or who shares it with that person; empty: nothing."""
    owners: tuple[str, ...] = field(default=(), compare=False)
    """The owners whom that person may know, the person first."""
    is_own: bool = field(default=False, compare=False)
    """Whether that person is an owner."""
    is_shared: bool = field(default=False, compare=False)
    """Whether the person shares it, or whoever the owner is."""

    def __str__(self) -> str:
        return f"PCA {self.name!r} ({self.sha256})" if self.name else f"PCA {self.sha256}"

    def check(self, facts: FeatureFacts, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise PCAMismatchError if the PCA was fitted on other features."""
        if mismatches := self.description.mismatches(facts, shapes):
            raise PCAMismatchError(
                f"{self} does not fit these features: {'; '.join(mismatches)}. Fit it with the "
                "options of these features: fit_pca(..., preprocessing=extractor.changes) fits "
                "with an extractor's preprocessing",
                field="reduction.pca",
                subject=self.name or self.sha256,
            )


@dataclass(frozen=True)
class Axes:
    """The mean row [P], float64, and axes k x P, float32, of one module."""

    mean: Array
    axes: Array

    def scores(self, rows: Array) -> Array:
        """Return n x k float32 scores of n rows of P values: (rows - mean) @ axes.T."""
        import torch  # its products use only the calling thread's cores

        flat = rows.reshape(len(rows), -1)
        centred = np.subtract(flat, self.mean, dtype=np.float64).astype(np.float32)
        scores: Array = (torch.from_numpy(centred) @ torch.from_numpy(self.axes).T).numpy()
        return scores


@dataclass(frozen=True)
class PCA:
    """A PCA with its arrays; PCAs with equal records are equal."""

    record: PCARecord
    modules: Mapping[str, Axes] = field(compare=False)
