"""PCAs of four values, without features that they were fitted on."""

from __future__ import annotations

import hashlib

import numpy as np

from thingsvision_server.access.person import Person
from thingsvision_server.access.scopes import Scope
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat, Precision
from thingsvision_server.engine.pca.fitted import Axes, FeatureFacts, PCADescription, PCAModule
from thingsvision_server.engine.reduction import Projection, Reduction
from thingsvision_server.inputs import Preprocessing

WORK = frozenset({Scope.READ, Scope.EXTRACT})
ADA = Person("ada", WORK)

MODULE = "features.3"
OPTIONS = ComputeOptions(Precision.BFLOAT16, MemoryFormat.CHANNELS_LAST)
LINE = f"{'0' * 64}  a.jpg\n"


def numbers(first: float = 0.0) -> dict[str, Axes]:
    """Return a mean and two axes; another first value makes another file."""
    axes = np.arange(8, dtype=np.float32).reshape(2, 4)
    return {MODULE: Axes(np.arange(4, dtype=np.float64) + first, axes)}


def described(images: str, name: str = "ü") -> PCADescription:
    """Return a description with all that there may be."""
    reduction = Reduction(pool="mean", pool_axes=(1, 2), projection=Projection(4, 0))
    facts = FeatureFacts("m/n@default", "0" * 64, Preprocessing(), "", OPTIONS, reduction)
    digest = hashlib.sha256(images.encode()).hexdigest()
    module = PCAModule(MODULE, (4,), (2.0, 1.0), (0.6, 0.3))
    return PCADescription(
        name, 2, images.count("\n"), digest, facts, (module,), 8, False, "cpu", "torch", "1",
        cores={"count": 1, "tail_start": 8, "tail_count": 2},
    )  # fmt: skip
