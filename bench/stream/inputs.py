"""The inputs of the cheap network: small tensors, as many as asked for, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cases import StreamCase

_DIFFERENT = 64


def named_inputs(case: StreamCase) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield names and float32 tensors; some tens of them, again and again."""
    random = np.random.default_rng(0)
    shape = (min(case.count, _DIFFERENT), *case.input_shape)
    values = random.standard_normal(shape, dtype=np.float32)
    for index in range(case.count):
        yield f"{index:06d}", values[index % len(values)]
