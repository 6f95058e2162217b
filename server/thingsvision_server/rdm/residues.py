"""Computes inner products of float64 rows exactly enough from products of 8-bit integers.

For GPUs whose float64 is 32 or 64 times slower than their float32 (`has_fast_float64`). The method
is Ozaki, Uchino & Imamura 2025, "Ozaki Scheme II", arXiv:2504.08009:

1. A block of b values of row i becomes integers: y = u (q + d) with u a power of two, q whole and
   |d| <= 1/2. u is the smallest with |q| <= L, where L^2 < P / 2 and P is the product of MODULI.
2. For each modulus p, the residues of q fit 8 bits, and the sums of their products fit 32 bits:
   they are exact, whichever device multiplies, in whichever order.
3. Since |q.q'| <= |q| |q'| < P / 2 (Cauchy-Schwarz), the Chinese remainder theorem gives q.q' back.

Only steps 1 and 3 round. As |y| / u > L / 2, step 1 adds at most 2 sqrt(b) / L |y| |y'|, 9e-14 for
4,096 values and 2.5e-13 for RESIDUE_VALUES; step 3 sums 13 fractions below 1 in float64, with an
error of at most 2^-46 P <= 2^-43 |y| |y'|. So an inner product is off by at most

    ERROR |y| |y'|,  ERROR = 4e-13

where the bound of a float64 sum of 4,096 products is 4.5e-13 |y| |y'|. Blocks add up to the same
bound, as the sum of |y_k| |y'_k| over blocks is at most |y| |y'|.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from math import isqrt, prod
from typing import TYPE_CHECKING

from .computation import Computation
from .rows import spans

if TYPE_CHECKING:
    from torch import Tensor

MODULI = (253, 251, 247, 241, 239, 233, 229, 227, 223, 217, 211, 199, 197)
"""Coprime in pairs, and so small that a residue fits int8 even if its quotient was rounded away."""

PRODUCT = prod(MODULI)

INVERSES = tuple(pow(PRODUCT // modulus, -1, modulus) for modulus in MODULI)

LONGEST = isqrt(PRODUCT // 2) * (1 - 2**-20)
"""L, the greatest length of a row of integers; the margin is for rounding in lengths."""

ERROR = 4e-13
"""The bound of the error of an inner product of two rows, as a share of their lengths' product."""

TILE_VALUE_BYTES = 32
"""Bytes for one value of a tile while it is computed: two int32, three float64."""

_SHORTEST = 2.0**-500
"""Rows below this length are zeros: squares of their values are zero, or not exact, in float64."""

_MULTIPLE = 8
_LEAST_ROWS = 24
"""CUDA multiplies int8 matrices if their sides are multiples of 8, and more than 16."""

Kernel = Callable[["Tensor", "Tensor"], "Tensor"]


def _multiply_int8(left: Tensor, right: Tensor) -> Tensor:
    import torch

    return torch._int_mm(left, right.T)  # noqa: SLF001 - there is no public function yet


def _multiply_float32(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in float32 as far as sums are exact: whole numbers below 2^24, also with TF32."""
    import torch

    total = torch.zeros((len(left), len(right)), dtype=torch.int32, device=left.device)
    for start, stop in spans(left.shape[1], 1024):
        total += (left[:, start:stop].float() @ right[:, start:stop].float().T).int()
    return total


KERNELS: tuple[Kernel, ...] = (_multiply_int8, _multiply_float32)


@cache
def find_kernel(device: str) -> Kernel | None:
    """Return the first kernel that multiplies int8 matrices exactly on a device; None if none."""
    return next((kernel for kernel in KERNELS if is_exact(kernel, device)), None)


def is_exact(kernel: Kernel, device: str) -> bool:
    """Return whether a kernel gives exact sums, of the largest residues and of ordinary ones."""
    import torch

    residues = torch.arange(32 * 4096).mul_(7919).remainder_(255).sub_(127).reshape(32, 4096)
    residues[:2] = 127
    residues[2:4] = -127
    exact = (residues.double() @ residues.double().T).long()
    values = residues.to(torch.int8).to(device)
    try:
        found = kernel(values, values)
    except (RuntimeError, NotImplementedError):  # not on this device
        return False
    return bool((found.cpu().long() == exact).all())


class ResidueProducts:
    """Adds products of blocks to a Gram matrix, one tile at a time."""

    def __init__(self, computation: Computation, kernel: Kernel) -> None:
        import torch

        self._computation = computation
        self._kernel = kernel
        self._residues = self._units = torch.empty(0)

    def load(self, block: Tensor) -> None:
        """Take the next block of finite values, N x b float64, b at most RESIDUE_VALUES."""
        import torch

        shape = (
            len(MODULI),
            _round_up(len(block)) + _LEAST_ROWS,
            _round_up(block.shape[1]),
        )
        if self._residues.shape != shape:
            self._residues = torch.zeros(shape, dtype=torch.int8, device=block.device)
        self._residues[:, :, block.shape[1] :] = 0  # the last block may be narrower
        self._units = block.new_empty(len(block))
        self._computation.each(
            partial(self._convert, block), self._computation.strips(*block.shape)
        )

    def _convert(self, block: Tensor, start: int, stop: int) -> None:
        import torch

        values = block[start:stop]
        units = find_units(values.square().sum(1).sqrt_())
        self._units[start:stop] = units
        whole = values.div(units[:, None]).round_()
        residue, scratch = torch.empty_like(whole), torch.empty_like(whole)
        for plane, modulus in zip(self._residues, MODULI, strict=True):
            _reduce(residue.copy_(whole), modulus, scratch)
            plane[start:stop, : values.shape[1]] = residue.nan_to_num_(0)

    def tiles(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Split rows [start, stop) of a lower triangle into square tiles: rows and columns."""
        length = tile_length(self._computation.block_bytes)
        for first, last in ((start + a, start + b) for a, b in spans(stop - start, length)):
            for left, right in spans(last, length):
                yield slice(first, last), slice(left, right)

    def add(self, tile: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
        """Add the products of the block's rows and columns to a tile; `is_first`: replace it."""
        import torch

        height, width = tile.shape
        share, value = torch.zeros_like(tile), torch.empty_like(tile)
        for plane, modulus, inverse in zip(self._residues, MODULI, INVERSES, strict=True):
            sums = self._kernel(plane[_padded(rows)], plane[_padded(columns)])[:height, :width]
            sums.remainder_(modulus).mul_(inverse).remainder_(modulus)  # int32: half the traffic
            share.add_(value.copy_(sums).mul_(1 / modulus))
        share.sub_(torch.round(share, out=value)).mul_(float(PRODUCT))
        share.mul_(self._units[rows, None]).mul_(self._units[columns])
        if is_first:
            tile.copy_(share)
        else:
            tile.add_(share)


def tile_length(block_bytes: int) -> int:
    """Return the greatest number of rows and columns of a tile."""
    return max(1, isqrt(block_bytes // TILE_VALUE_BYTES))


def find_units(lengths: Tensor) -> Tensor:
    """Return the smallest powers of two that make rows of these lengths at most LONGEST long.

    Infinity if a length is, so that products with the row are NaN.
    """
    import torch

    # A float64's bits from 52 on are its exponent: 2^k for the first k that is greater.
    lengths = lengths.nan_to_num(nan=torch.inf, posinf=torch.inf)
    exponents = ((lengths / LONGEST).view(torch.int64) >> 52) + 1
    units = (exponents.clamp_(max=2047) << 52).view(torch.float64)
    return units.masked_fill_(lengths < _SHORTEST, 1.0)


def _reduce(values: Tensor, modulus: int, scratch: Tensor) -> None:
    """Subtract multiples of a modulus from whole numbers below 2^51, in place: all steps exact."""
    import torch

    torch.mul(values, 1 / modulus, out=scratch)
    values.sub_(scratch.round_(), alpha=modulus)


def _round_up(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE


def _padded(span: slice) -> slice:
    """Return a span of at least as many rows as CUDA needs."""
    count = max(_LEAST_ROWS, _round_up(span.stop - span.start))
    return slice(span.start, span.start + count)
