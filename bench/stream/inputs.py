"""The inputs of the cheap network: small tensors, as many as requested, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cases import StreamCase

_DISTINCT = 64


def tensor_inputs(case: StreamCase) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield names and float32 tensors; after 64, the tensors repeat."""
    random = np.random.default_rng(0)
    shape = (min(case.count, _DISTINCT), *case.input_shape)
    values = random.standard_normal(shape, dtype=np.float32)
    for index in range(case.count):
        yield f"{index:06d}", values[index % len(values)]
