"""The preprocessing that the server applies to a dataset's images, and the backends of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequestError
from ..values.preprocessing import Preprocessing, PreprocessingOverrides

BACKENDS = ("pt", "tf")


@dataclass(frozen=True, repr=False)
class ServerTransforms:
    """Stands for the model's own preprocessing, which the server applies, and changes to it.

    `own` is None if the server reports it only with the features.
    """

    overrides: PreprocessingOverrides | None = None
    own: Preprocessing | None = None

    @property
    def is_own(self) -> bool:
        """Whether these are the model's own, without changes."""
        return self.overrides is None

    def __repr__(self) -> str:
        steps = " ".join(self.own.description.split()) if self.own else ""
        own = f"the model's own, {steps}" if steps else "the model's own"
        changes = f", but with {self.overrides}" if self.overrides else ""
        return f"ServerTransforms({own}{changes})"


def as_transforms(transforms: Any) -> ServerTransforms:
    """Return what a user passes as transforms. Raises InvalidRequestError."""
    if transforms is not None and not isinstance(transforms, ServerTransforms):
        raise InvalidRequestError(
            "`transforms` must be what extractor.get_transformations(...) returns, or None for the "
            "model's own preprocessing: your own transforms can't run on the server."
        )
    return transforms or ServerTransforms()


def check_backend(backend: Any) -> str:
    """Return the name of a backend. Raises InvalidRequestError."""
    if backend not in BACKENDS:
        raise InvalidRequestError(
            f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}."
        )
    return str(backend)
