"""Runs operators of exported programs whose own checks are incomplete with checks around them.

PyTorch's kernels trust some arguments that its own functions always compute, and a file may have
others: sizes that are not the tensor's, or indices that some step did not compute. A kernel that
trusts them ends the process, or reads memory of others. What a check finds is the program's fault.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from ..uploads.exported_operators import GUARDED, GUARDED_PRIMS, UNWRITTEN, is_guarded

_LARGEST_SIZE = 2**63
_LARGEST_STEP = 2**31

_Arguments = Mapping[str, Any]


def guard_operators(graph: fx.Graph) -> None:
    """Replace the guarded operators of a graph by calls of `run_guarded`."""
    for node in graph.nodes:
        if node.target is operator.mul:
            node.target = multiply_sizes
        elif isinstance(node.target, OpOverload) and _name_of(node.target):
            node.args = (node.target, *node.args)
            node.target = run_guarded


def run_guarded(called: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Return what an operator returns; raise RuntimeError if its arguments don't fit together."""
    names = [argument.name for argument in called._schema.arguments]  # noqa: SLF001 - no other way
    arguments = dict(zip(names, args, strict=False)) | kwargs
    name = _name_of(called)
    if name in UNWRITTEN:
        return called(*args, **kwargs).zero_()
    if name in ("div", "divide"):
        return _divide(called, arguments, args, kwargs)
    _CHECKS[name](arguments)
    return called(*args, **kwargs)


def multiply_sizes(one: Any, other: Any) -> Any:
    """Return a product; raise RuntimeError if no tensor can be so large."""
    product = one * other
    if abs(product) >= _LARGEST_SIZE:
        raise RuntimeError(f"its sizes multiply to more than {_LARGEST_SIZE:,}")
    return product


def _name_of(called: OpOverload) -> str:
    namespace, _, name = called._schema.name.partition("::")  # noqa: SLF001
    if not is_guarded(namespace, name):
        return ""
    name = name.removesuffix("_")
    is_exact = name in ("div", "divide") and namespace == "aten" and "_mode" not in str(called)
    return "" if is_exact else name


def _divide(called: OpOverload, given: _Arguments, args: Any, kwargs: Any) -> Any:
    """Divide; the smallest integer by -1 is itself, as where PyTorch negates it."""
    one, other = given["self"], given["other"]
    # The processor has no result for it, and ends the process.
    if not _are_integers(one, other):
        return called(*args, **kwargs)
    negated = -one.to(torch.result_type(one, other))
    if not isinstance(other, torch.Tensor):
        result = called(one, 1 if other == -1 else other, *args[2:], **kwargs)
        return result.copy_(negated) if other == -1 else result
    is_minus = other == -1
    result = called(one, torch.where(is_minus, 1, other), *args[2:], **kwargs)
    return result.copy_(torch.where(is_minus, negated, result))


def _are_integers(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor) or isinstance(other, float):
        return False
    result = torch.result_type(one, other)
    return not result.is_floating_point and not result.is_complex and result.is_signed


def _require(is_met: bool, what: str) -> None:
    if not is_met:
        raise RuntimeError(what)


def _check_statistics(given: _Arguments) -> None:
    channels = given["input"].size(1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = given.get(name)
        _require(
            tensor is None or tensor.numel() == channels,
            f"{name} of a batch norm must have a value for each of {channels} channels",
        )


def _check_attention(given: _Arguments) -> None:
    query, key, value = given["query"], given["key"], given["value"]
    _require(
        min(query.dim(), key.dim(), value.dim()) >= 2
        and key.size(-2) == value.size(-2)
        and query.size(-1) == key.size(-1),
        f"query, key and value of attention must fit together, got {_shapes(query, key, value)}",
    )


def _check_flash_attention(given: _Arguments) -> None:
    query, key, value = given["query"], given["key"], given["value"]
    _check_attention(given)
    _require(
        query.dim() == key.dim() == value.dim() == 4
        and query.size(0) == key.size(0) == value.size(0)
        and key.size(1) == value.size(1)
        and query.size(1) % max(1, key.size(1)) == 0
        and key.size(3) == value.size(3),
        f"query, key and value of attention must fit together, got {_shapes(query, key, value)}",
    )


def _shapes(*tensors: torch.Tensor) -> str:
    return ", ".join(str(list(one.shape)) for one in tensors)


def _check_resize(given: _Arguments) -> None:
    sizes, scales = given.get("output_size"), list(_scales(given))
    if sizes is None or all(scale is None for scale in scales):
        return
    spatial = given["input" if "input" in given else "self"].shape[2:]
    for size, scale, source in zip(sizes, scales, spatial, strict=True):
        _require(
            scale is None
            or (
                (scale > 0 and math.isfinite(scale))
                # A larger output would be computed of pixels behind the last.
                and size <= source * scale * (1 + 1e-6)
            ),
            f"a resize from {source} to {size} pixels must have a scale that fits, got {scale}",
        )


def _scales(given: _Arguments) -> Iterator[float | None]:
    if given.get("scale_factors") is not None:
        yield from given["scale_factors"]
        return
    for name in ("scales", "scales_d", "scales_h", "scales_w"):
        if name in given:
            yield given[name]


def _check_weight_norm(given: _Arguments) -> None:
    weight, scale, axis = given["v"], given["g"], given.get("dim", 0)
    expected = 1 if axis == -1 else weight.size(axis)
    _require(scale.numel() == expected, f"the scale of a weight norm must have {expected} values")


def _check_view(given: _Arguments) -> None:
    """Let `as_strided` see nothing but the tensor that it is given."""
    tensor, sizes, strides = given["self"], given["size"], given["stride"]
    offset = given.get("storage_offset")
    last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    own = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    _require(
        min([*sizes, *strides, 0]) >= 0
        and (0 in sizes or (last <= own and tensor.numel() > 0))
        and offset in (None, tensor.storage_offset()),
        f"as_strided must stay inside its tensor of shape {list(tensor.shape)}, got the sizes "
        f"{list(sizes)} and strides {list(strides)}",
    )


def _check_pool(given: _Arguments) -> None:
    divisor = given.get("divisor_override")
    _require(divisor is None or divisor > 0, f"a pool must divide by 1 or more, got {divisor}")


def _check_steps(given: _Arguments) -> None:
    steps = [step for value in given.values() if isinstance(value, list | tuple) for step in value]
    _require(
        all(abs(step) < _LARGEST_STEP for step in steps),
        f"sizes and steps must be below {_LARGEST_STEP:,}, got {steps}",
    )


def _check_finite(given: _Arguments) -> None:
    matrix = next(iter(given.values()))
    _require(bool(torch.isfinite(matrix).all()), "eigenvalues need a matrix without NaN and inf")


def _check_pivots(given: _Arguments) -> None:
    pivots = given.get("pivots", given.get("LU_pivots"))
    matrix = given.get("LU", given.get("LU_data"))
    if pivots is None or matrix is None or not pivots.numel():
        return
    least, most = pivots.aminmax()
    _require(
        least >= 1 and most <= matrix.size(-1) and pivots.size(-1) == matrix.size(-1),
        f"pivots must be 1 to {matrix.size(-1)}",
    )


def _check_inverse_fourier(given: _Arguments) -> None:
    tensor, axes, size = given["self"], given["dim"], given["last_dim_size"]
    _require(
        len(axes) > 0 and 0 < size // 2 + 1 <= tensor.size(axes[-1]),
        f"an inverse transform to {size} values must be given {size // 2 + 1} or more",
    )


def _recurrent(gates: int) -> Callable[[_Arguments], None]:
    """Return a check of a recurrent layer's weights; a gate has `hidden` rows."""

    def check(given: _Arguments) -> None:
        states = list(given["hx"]) if gates == 4 else [given["hx"]]
        shapes = list(_weight_shapes(given, states, gates))
        _require(
            [list(one.shape) for one in given["params"]] == shapes,
            "the weights of a recurrent layer must fit its sizes",
        )

    return check


def _weight_shapes(
    given: _Arguments, states: list[torch.Tensor], gates: int
) -> Iterator[list[int]]:
    both = 2 if given["bidirectional"] else 1
    hidden, out = states[-1].size(-1), states[0].size(-1)
    inputs = (given["input"] if "input" in given else given["data"]).size(-1)
    for _ in range(min(given["num_layers"], len(given["params"]))):
        for _ in range(both):
            yield [gates * hidden, inputs]
            yield [gates * hidden, out]
            if given["has_biases"]:
                yield from ([gates * hidden], [gates * hidden])
            if out != hidden:
                yield [out, hidden]
        inputs = out * both


_CHECKS: Mapping[str, Callable[[_Arguments], None]] = {
    **dict.fromkeys((one for one in GUARDED if "upsample" in one), _check_resize),
    **dict.fromkeys((one for one in GUARDED if "batch_norm" in one), _check_statistics),
    **dict.fromkeys((one for one in GUARDED if "weight_norm" in one), _check_weight_norm),
    **dict.fromkeys((one for one in GUARDED if "_eig" in one), _check_finite),
    **dict.fromkeys(("lu_solve", "linalg_lu_solve"), _check_pivots),
    **dict.fromkeys(("avg_pool2d", "avg_pool3d"), _check_pool),
    **dict.fromkeys(("im2col", "col2im"), _check_steps),
    **dict.fromkeys(("rnn_relu", "rnn_tanh"), _recurrent(1)),
    "_fft_c2r": _check_inverse_fourier,
    "_scaled_dot_product_flash_attention_for_cpu": _check_flash_attention,
    "as_strided": _check_view,
    "gru": _recurrent(3),
    "lstm": _recurrent(4),
    "scaled_dot_product_attention": _check_attention,
}
"""What is checked, by the operator."""

_WITH_RESULTS = UNWRITTEN | {"div", "divide"}
"""Operators whose results are changed, not only their arguments checked."""


def unchecked() -> frozenset[str]:
    """Return the guarded operators that nothing here guards, for a test."""
    return (GUARDED | GUARDED_PRIMS) - _CHECKS.keys() - _WITH_RESULTS
