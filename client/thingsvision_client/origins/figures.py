"""The metadata of figures of RDMs: JSON beside them that says what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .document import sha256_of_values
from .memory import origin_of


def describe_rdms(
    rdms: Mapping[str, Array],
    *,
    names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Return what the metadata of a figure of RDMs say: what each is, and how it was drawn.

    Each RDM is known by the SHA-256 of its values (float64, little-endian, C order). `provenance`
    is what computed all of them, and `facts` are the options of the figure.
    """
    return {
        "inputs": {title: _describe(rdm) for title, rdm in rdms.items()},
        **({"names": list(names)} if names is not None else {}),
        **(provenance or {}),
        "figure": facts,
    }


def describe_features(features: Any, rdm: Array, **facts: Any) -> dict[str, Any]:
    """Return what the metadata of a figure of the RDM of features say."""
    return describe_rdms({"rdm": rdm}, provenance=origin_of(features), **facts)


def _describe(rdm: Array) -> dict[str, Any]:
    return {"shape": list(rdm.shape), "sha256": sha256_of_values(np.asarray(rdm, "<f8"))}
