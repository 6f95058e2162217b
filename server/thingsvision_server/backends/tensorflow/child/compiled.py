"""Runs a program as a TensorFlow graph if that is worthwhile and every bit stays the same."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from .files import RefusedError, refuse_failures
from .graph import Program


def disable_graph_optimisers() -> None:
    """Make TensorFlow run a graph's operations unmerged: merged operations round differently."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class CompiledProgram:
    """A program that runs step by step at first, and as a graph from its third pass on.

    Making the graph takes about a second, which is too long for a single pass. The second pass runs
    both ways; if the graph can't be made, or returns other bits, the program stays step by step.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._graph: Any = None
        self._pass_count = 0

    def run(self, batch: Any) -> list[Any]:
        """Return the requested tensors of one forward pass in inference mode."""
        if self._graph is not None:
            with suppress(RefusedError), refuse_failures("its graph"):
                return list(self._graph(batch))
            return self._program.run(batch)  # its error names the layer, a graph's does not
        self._pass_count += 1
        found = self._program.run(batch)
        if self._pass_count == 2:
            self._graph = _graph(self._program, batch, found)
        return found


def _graph(program: Program, batch: Any, expected: list[Any]) -> Any | None:
    """Return the program as a graph for any batch size; None if it returns other bits."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *batch.shape[1:]), batch.dtype)]
    graph = tf.function(program.run, input_signature=signature, autograph=False)
    # A layer may run Python code that no graph can hold, and raise any exception because of it.
    try:
        found = graph(batch)
    except Exception:
        return None
    pairs = zip(found, expected, strict=True)
    same = all(np.array_equal(a.numpy(), b.numpy(), equal_nan=True) for a, b in pairs)
    return graph if same else None
