"""Operators of uploaded programs: which are listed, and that none can end the process."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from support.checkout import SUPPORT
from thingsvision_server.sources.own.exported_guards import (
    guard_operators,
    multiply_sizes,
    run_guarded,
    unchecked,
)
from thingsvision_server.sources.uploads.exported_operators import (
    GUARDED,
    OPERATORS,
    PRIMS,
    SWITCHED,
    is_listed,
)
from thingsvision_server.sources.uploads.exported_randomness import draws

aten, prims = torch.ops.aten, torch.ops.prims

REFUSED = """
_foreach_zero_ _index_put_impl_ _reshape_alias _resize_output_ adaptive_max_pool2d_backward
as_strided_ as_strided_scatter bernoulli bernoulli_ convolution_backward ctc_loss
empty_quantized fractional_max_pool2d from_file max_pool2d_with_indices_backward mkldnn_rnn_layer
multinomial normal_ rand rand_like randint randn randperm random_ resize resize_ resize_as_ save
segment_reduce set_ set_data uniform_ _print
"""


def test_listed_operators_exist_and_draw_nothing_that_is_not_switched_off() -> None:
    drawing = set()
    for name in OPERATORS:
        packet = getattr(aten, name, None) or getattr(aten, f"{name}_")
        drawing |= {name for one in packet.overloads() if draws(getattr(packet, one))}
    assert drawing <= SWITCHED | GUARDED
    assert [name for name in OPERATORS | PRIMS if "backward" in name] == []


def test_every_listed_prim_exists() -> None:
    assert [name for name in PRIMS if not hasattr(prims, name)] == []


def test_every_guarded_operator_has_a_guard() -> None:
    assert unchecked() == frozenset()


def test_what_does_more_than_compute_features_is_not_listed() -> None:
    assert [name for name in REFUSED.split() if is_listed("aten", name)] == []


def test_operators_of_every_known_architecture_are_listed() -> None:
    """The file has what torch.export wrote of each of them, also after run_decompositions."""
    names = (SUPPORT / "exported_operators.txt").read_text().split()
    assert len(names) > 250
    assert [name for name in names if not is_listed(*name.split("::"))] == []


INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("mode", ["trunc", "floor"])
def test_division_of_integers_gives_what_numpy_gives(dtype: torch.dtype, mode: str) -> None:
    smallest = torch.iinfo(dtype).min
    one = torch.tensor([smallest, smallest, -7, 7, -7, 7, 0], dtype=dtype)
    other = torch.tensor([-1, 1, 2, -2, -1, -1, -1], dtype=dtype)
    with np.errstate(over="ignore"):
        exact = one.numpy().astype(object)
        expected = [
            int(a // b) if mode == "floor" else int(abs(a) // abs(b)) * (1 if a * b >= 0 else -1)
            for a, b in zip(exact, other.numpy().astype(object), strict=True)
        ]
    expected[0] = smallest  # as PyTorch negates it
    found = run_guarded(aten.div.Tensor_mode, one, other, rounding_mode=mode)
    assert found.dtype == dtype
    assert found.tolist() == expected
    changed = one.clone()
    assert run_guarded(aten.div_.Tensor_mode, changed, other, rounding_mode=mode) is changed
    assert changed.tolist() == expected
    if mode == "trunc":
        assert run_guarded(prims.div.default, one, other).tolist() == expected
    by_scalar = run_guarded(aten.div.Scalar_mode, one, -1, rounding_mode=mode).tolist()
    assert by_scalar == [smallest if a == smallest else -a for a in one.tolist()]


@pytest.mark.parametrize("other", [2, -3, 0.5, torch.tensor([2.0, 3.0]), torch.tensor([3, -2])])
def test_division_that_needs_no_guard_is_pytorchs_own(other: Any) -> None:
    one = torch.tensor([7, -7])
    name = "Tensor_mode" if isinstance(other, torch.Tensor) else "Scalar_mode"
    called = getattr(aten.div, name)
    for mode in ("trunc", "floor"):
        expected = called(one, other, rounding_mode=mode)
        torch.testing.assert_close(run_guarded(called, one, other, rounding_mode=mode), expected)
    unsigned = torch.tensor([200, 3], dtype=torch.uint8)
    expected = aten.div.Scalar_mode(unsigned, -1, rounding_mode="trunc")
    found = run_guarded(aten.div.Scalar_mode, unsigned, -1, rounding_mode="trunc")
    assert found.tolist() == expected.tolist()


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


ENDS: dict[str, Callable[[], Any]] = {
    "pool": lambda: run_guarded(
        aten.avg_pool2d.default, torch.full((1, 1, 1, 1), -(2**63)), [1, 1], [1, 1], [0, 0],
        False, True, -1,
    ),
    "resize": lambda: run_guarded(
        aten._upsample_bilinear2d_aa.default, zeros(1, 3, 40, 40), [80, 80], False, 0.1, 0.1
    ),
    "resize to NaN": lambda: run_guarded(
        aten.upsample_nearest2d.default, zeros(1, 3, 4, 4), [8, 8], float("nan"), 2.0
    ),
    "weight norm": lambda: run_guarded(aten._weight_norm.default, zeros(1000, 1000), zeros(1)),
    "batch norm": lambda: run_guarded(
        aten._native_batch_norm_legit_no_training.default,
        zeros(1, 64, 1, 1), None, None, zeros(1), zeros(1), 0.1, 1e-5,
    ),
    "attention": lambda: run_guarded(
        aten.scaled_dot_product_attention.default,
        zeros(1, 2, 8, 8), zeros(1, 2, 80000, 8), zeros(1, 2, 8, 8),
    ),
    "flash attention": lambda: run_guarded(
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        zeros(9, 2, 8, 8), zeros(1, 2, 8, 8), zeros(1, 2, 8, 8),
    ),
    "lstm": lambda: run_guarded(
        aten.lstm.input, zeros(2, 3, 4), [zeros(1, 3, 8), zeros(1, 3, 8)],
        [zeros(1, 1), zeros(1, 1)], False, 1, 0.0, False, False, False,
    ),
    "unfold": lambda: run_guarded(
        aten.im2col.default, zeros(1, 1, 4, 4), [1, 1], [2**62, 2**62], [2**61, 2**61], [1, 1]
    ),
    "eigenvalues": lambda: run_guarded(aten.linalg_eigvals.default, zeros(3, 3) * float("nan")),
    "a solution": lambda: run_guarded(
        aten.linalg_lu_solve.default, torch.eye(3), torch.tensor([9, 2, 3], dtype=torch.int32),
        zeros(3, 1),
    ),
    "a transform": lambda: run_guarded(
        aten._fft_c2r.default, torch.zeros(4, 3, dtype=torch.complex64), [1], 0, 1000
    ),
    "strides": lambda: run_guarded(aten.as_strided.default, zeros(4)[:2], [4], [1]),
    "an offset": lambda: run_guarded(aten.as_strided.default, zeros(4), [2], [1], 2),
    "sizes": lambda: multiply_sizes(2**40, 2**40),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_arguments_that_dont_fit_are_the_programs_fault(case: str) -> None:
    with pytest.raises(RuntimeError):
        ENDS[case]()


def test_what_fits_passes() -> None:
    layer = torch.nn.LSTM(4, 8, 2, bidirectional=True).eval()
    inputs, states = torch.randn(2, 3, 4), [zeros(4, 3, 8), zeros(4, 3, 8)]
    weights = list(layer._flat_weights)
    found = run_guarded(aten.lstm.input, inputs, states, weights, True, 2, 0.0, False, True, False)
    torch.testing.assert_close(found[0], layer(inputs)[0])
    pooled = zeros(2, 5, 1, 1)
    assert run_guarded(aten.as_strided.default, pooled, [2, 5, 1, 1], [5, 1, 5, 5]).shape == (
        2, 5, 1, 1,
    )  # fmt: skip
    for size, scale in [(12, 0.3), (80, 2.0), (13, 1 / 3)]:
        source = torch.randn(1, 3, 40, 40)
        sized = (source, [size, size], False, scale, scale)
        found = run_guarded(aten._upsample_bilinear2d_aa.default, *sized)
        torch.testing.assert_close(found, aten._upsample_bilinear2d_aa.default(*sized))
    weight, scale = torch.randn(6, 4), torch.ones(1, 4)
    found = run_guarded(aten._weight_norm.default, weight, scale, 1)
    torch.testing.assert_close(found, torch._weight_norm(weight, scale, 1))


def test_memory_that_nothing_was_written_to_is_filled() -> None:
    zeros(1000).fill_(7.0)
    for one in (
        run_guarded(aten.empty.memory_format, [1000]),
        run_guarded(aten.new_empty.default, zeros(1), [1000]),
        run_guarded(aten.empty_strided.default, [10, 100], [100, 1]),
        run_guarded(aten.empty.out, [1000], out=zeros(0)),
    ):
        assert not one.any()


def test_a_graph_is_guarded_where_it_must_be_and_nowhere_else() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    exact = graph.call_function(aten.div.Tensor, (x, x))
    made = graph.call_function(aten.empty_like.default, (exact,))
    size = graph.call_function(operator.mul, (2, 3))
    graph.output((made, size))
    guard_operators(graph)
    targets = [node.target for node in graph.nodes if node.op == "call_function"]
    assert targets == [aten.div.Tensor, run_guarded, multiply_sizes]
    assert not fx.GraphModule({}, graph)(torch.ones(3))[0].any()


def test_the_list_of_architectures_is_sorted_and_has_no_name_twice() -> None:
    names = Path(SUPPORT / "exported_operators.txt").read_text().split()
    assert names == sorted(set(names))
