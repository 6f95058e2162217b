"""Our engine without gRPC: the rows of the cheap network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from thingsvision_server.engine.passes.stream import FeatureRows
from thingsvision_server.engine.planning import ExtractSpec
from thingsvision_server.inputs import RequestItem, TensorImage

from ..cases import StreamCase
from ..engine import Engine, engine_key
from ..worker import Case, Column, Result, main
from .inputs import tensor_inputs


class Local(Column):
    """Counts the bytes of the engine's rows and drops them."""

    def __init__(self) -> None:
        self._engine = Engine()

    def prepare(self, case: Case) -> None:
        """Open the engine."""
        self._case = StreamCase(**case)
        self._extractor = self._engine.open(self._case.weights_dir, self._case.device)

    def run(self) -> Result:
        """Receive all rows."""
        self._engine.run(self._extract())
        return {}

    async def _extract(self) -> None:
        key, shape = engine_key(self._case.model), tuple(self._case.input_shape)
        modules, received = (self._case.module,), 0
        size, count = self._case.batch_size, self._case.count
        spec = ExtractSpec(key, modules, size, image_count=count, tensor_shape=shape)
        async with self._extractor.open(spec) as opening:
            extraction = await opening.wait_and_begin()
            rows = self._extractor.rows(extraction, self._items())
            async with aclosing(rows) as parts:
                async for part in parts:
                    assert isinstance(part, FeatureRows)
                    received += sum(array.nbytes for array in part.arrays)
        assert received == self._case.byte_count

    async def _items(self) -> AsyncIterator[RequestItem]:
        for index, (name, values) in enumerate(tensor_inputs(self._case)):
            yield TensorImage(index, name, values.tobytes())

    def close(self) -> None:
        """Free the model."""
        self._engine.close()


if __name__ == "__main__":
    main(Local)
