"""Our engine without gRPC: files are read, decoded and run in this one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thingsvision_server.engine.passes.stream import FeatureRows
from thingsvision_server.engine.planning import ExtractSpec
from thingsvision_server.images import EncodedImage
from thingsvision_server.inputs import RequestItem, TensorImage

from ..cases import FeatureCase
from ..engine import Engine, engine_key
from ..inputs import torch_inputs
from ..worker import Case, Column, Result, main

Array = npt.NDArray[Any]


class Local(Column):
    """The service's engine; rows are copied into one array per module, as the client does."""

    def __init__(self) -> None:
        self._engine = Engine()

    def prepare(self, case: Case) -> None:
        """Open the engine; the first run loads the model."""
        self._case = FeatureCase(**case)
        self._extractor = self._engine.open(self._case.weights_dir, self._case.device)
        tensors = self._case.inputs == "tensors"
        self._tensors = torch_inputs(self._case) if tensors else None

    def run(self) -> Result:
        """Extract the features."""
        result: Result = self._engine.run(self._extract())
        return result

    def notes(self) -> dict[str, Any]:
        """Return the batch size."""
        return {"batch_size": self._batch_size}

    async def _extract(self) -> Result:
        case, shape = self._case, None if self._tensors is None else self._tensors.shape[1:]
        spec = ExtractSpec(
            engine_key(case.model),
            tuple(case.modules),
            0 if case.merges else case.batch_size,
            image_count=len(case.images),
            tensor_shape=shape,
        )
        arrays: dict[str, Array] = {}
        async with self._extractor.open(spec) as opening:
            extraction = await opening.wait_and_begin()
            self._batch_size, start = extraction.batch_size, 0
            rows = self._extractor.rows(extraction, self._items())
            async with aclosing(rows) as parts:
                async for part in parts:
                    assert isinstance(part, FeatureRows)
                    self._fill(arrays, start, part.arrays)
                    start += len(part.images)
        assert start == len(case.images)
        return arrays

    def _fill(self, arrays: dict[str, Array], start: int, parts: list[Any]) -> None:
        for name, rows in zip(self._case.modules, parts, strict=True):
            if name not in arrays:
                shape = (len(self._case.images), *rows.shape[1:])
                arrays[name] = np.empty(shape, rows.dtype)
            arrays[name][start : start + len(rows)] = rows

    async def _items(self) -> AsyncIterator[RequestItem]:
        for index, path in enumerate(self._case.images):
            if self._tensors is None:
                yield EncodedImage(index, path, Path(path).read_bytes())
            else:
                yield TensorImage(index, path, self._tensors[index].tobytes())

    def close(self) -> None:
        """Free the models."""
        self._engine.close()


if __name__ == "__main__":
    main(Local)
