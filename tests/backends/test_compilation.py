"""Compiled passes: nearly the values of the network step by step, of any modules it has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from support.closeness import assert_close
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat, Precision
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.errors import PreconditionError
from thingsvision_server.inputs import IMAGE, InputSpec

SHAPE = (3, 16, 16)
TWO = ComputeOptions(compiled=True)


class Again(nn.Module):
    """Runs one module three times, and overwrites what another put out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.never = nn.Conv2d(4, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images)
        for _ in range(3):
            values = self.relu(self.again(values))
        if values.sum() > 1e9:  # no code can be made of what depends on values
            raise ValueError
        out: Tensor = self.never(values)
        return out


class Plain(Again):
    """The same without the question."""

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images)
        for _ in range(3):
            values = self.relu(self.again(values))
        out: Tensor = self.never(values)
        return out


def model(kind: type[nn.Module] = Plain) -> tuple[TorchModel, Any]:
    torch.manual_seed(0)
    network = kind().eval()
    return TorchModel(network, "cpu"), describe(network, {IMAGE: Tower(network, InputSpec(SHAPE))})


def images(count: int) -> list[Tensor]:
    """Return a batch of one piece."""
    return [torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))]


NAMES = ["first", "again@t=0", "again@all", "relu", "never"]


def near(found: Sequence[Any], expected: Sequence[Any], part: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert one.flags.c_contiguous
        assert_close(one, other, part)


def test_all_that_can_be_taken_is_nearly_the_same() -> None:
    compiled, structure = model()
    found = taps(structure, NAMES)
    expected = compiled.run(images(2), found).rows
    near(compiled.run(images(2), found, TWO).rows, expected)
    assert (expected[1] < 0).any()  # not what the ReLU left of it


def test_a_batch_that_is_not_full_gives_the_rows_of_its_images() -> None:
    compiled, structure = model()
    found = taps(structure, NAMES)
    forward = ForwardSpec(found, InputSpec(SHAPE), TWO, pass_size=2)
    run, overflows = forward.run(compiled, images(1))
    alone = run.rows
    assert len(overflows) == 1
    assert [len(rows) for rows in alone] == [1] * len(NAMES)
    near(alone, compiled.run(images(1), found).rows)


def test_the_same_batch_has_the_same_bits_in_all_threads() -> None:
    compiled, structure = model()
    found = taps(structure, NAMES)

    def run(_: int) -> list[Any]:
        torch.set_num_threads(1)
        return list(compiled.run(images(2), found, TWO).rows)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(run, range(8))
    for other in others:
        for one, again in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, again)


def test_other_compute_options_are_compiled_separately() -> None:
    compiled, structure = model()
    found = taps(structure, ["again", "never"])
    exact = compiled.run(images(2), found).rows
    last = ComputeOptions(memory_format=MemoryFormat.CHANNELS_LAST, compiled=True)
    near(compiled.run(images(2), found, last).rows, exact)
    short = ComputeOptions(Precision.BFLOAT16, compiled=True)
    rounded = compiled.run(images(2), found, short).rows
    near(rounded, exact, 0.05)
    assert (rounded[0] != exact[0]).any()
    near(compiled.run(images(2), found, TWO).rows, exact)


def test_more_networks_than_torch_compiles_of_one_function_are_compiled() -> None:
    for _ in range(torch._dynamo.config.recompile_limit + 2):
        compiled, structure = model()
        found = taps(structure, ["first"])
        near(compiled.run(images(2), found, TWO).rows, compiled.run(images(2), found).rows)
    torch._dynamo.reset()


def test_a_network_whose_way_depends_on_values_is_refused() -> None:
    compiled, structure = model(Again)
    found = taps(structure, ["never"])
    with pytest.raises(PreconditionError, match=r"can't compile this network.*out `compiled`"):
        compiled.run(images(2), found, TWO)
    assert len(compiled.run(images(2), found).rows[0]) == 2


def test_no_process_is_left_over() -> None:
    before = set(psutil.Process().children(recursive=True))
    compiled, structure = model()
    compiled.run(images(2), taps(structure, ["first"]), TWO)
    assert set(psutil.Process().children(recursive=True)) <= before


WITHOUT_COMPILER = """
from test_compilation import TWO, images, model
from thingsvision_server.backends.taps import taps
from thingsvision_server.errors import PreconditionError

compiled, structure = model()
found = taps(structure, ["first"])
try:
    compiled.run(images(2), found, TWO)
except PreconditionError as error:
    print(error)
print(len(compiled.run(images(2), found).rows[0]))
"""


def test_without_a_compiler_the_reason_is_given(tmp_path: Path) -> None:
    environment = os.environ | {
        "CXX": "no-such-compiler",
        "PATH": str(tmp_path),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", WITHOUT_COMPILER]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    sentence, count = done.stdout.splitlines()
    assert "torch.compile can't compile this network here" in sentence
    assert count == "2"
