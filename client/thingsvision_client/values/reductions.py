"""What makes features smaller, by a user's choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from numbers import Integral, Real
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.arguments import choose
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError

POOLS: Mapping[str, int] = {"mean": pb.POOL_MEAN, "max": pb.POOL_MAX}


@check_arguments
@dataclass(frozen=True)
class Reduction:
    """What the server does to each module's features before it sends them, in this order.

    Lists and arrays of whole numbers become tuples of int.

    Attributes:
        pool: `mean` or `max` over `pool_axes`; None leaves it out.
        pool_axes: Axes of one image's features to remove: (1, 2) of channels x height x width, (0,
            1) of height x width x channels.
        units: Indices to keep of what is left, flat in C order; empty means all.
        components: Width of a projection by the matrix of scikit-learn's
            `SparseRandomProjection(components, random_state=seed)`, which keeps distances (Li,
            Hastie & Church 2006); None leaves it out.
        seed: Seed of that matrix.
        pca: SHA-256 or name of a PCA that `Client.fit_pca` fitted, for the scores of what is left,
            (features - mean) @ axes.T. The server refuses features of another kind than those that
            it was fitted on.

    Raises:
        InvalidRequestError: A value that makes no sense for any module.

    Example:
        ```python
        from thingsvision_client import Client, Reduction

        channels = Reduction(pool="mean", pool_axes=(1, 2))
        extraction = Client().extract(
            "torchvision/alexnet", "photos", "features.10", reduction=channels
        )
        print(extraction.features["features.10"].shape)
        ```

    """

    pool: str | None = None
    pool_axes: Sequence[int] = ()
    units: Sequence[int] = ()
    components: int | None = None
    seed: int = 0
    pca: str | None = None

    def __post_init__(self) -> None:
        if self.pool is not None:
            choice("pool", self.pool, POOLS)
        for name in ("pool_axes", "units"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        for name in ("components", "seed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _whole_number(name, getattr(self, name)))
        if self.components is not None and not 1 <= self.components < 2**32:
            raise InvalidRequestError(
                f"`components` must be from 1 to 2**32 - 1, got {self.components!r}."
            )
        if self.pca is not None and not (isinstance(self.pca, str) and self.pca):
            raise InvalidRequestError(
                f"`pca` must be the SHA-256 or the name of a PCA on the server, got {self.pca!r}."
            )
        if self.seed is None or not 0 <= self.seed < 2**32:
            raise InvalidRequestError(f"`seed` must be from 0 to 2**32 - 1, got {self.seed!r}.")

    def to_message(self) -> pb.Reduction:
        """Return the message of the contract.

        Returns:
            The message; what is left out is unset.

        Example:
            ```python
            from thingsvision_client import Reduction

            print(Reduction(units=[0, 5, 10]).to_message())
            ```

        """
        message = pb.Reduction(
            pool=POOLS[self.pool] if self.pool else pb.POOL_UNSPECIFIED,  # type: ignore[arg-type]
            pool_axes=self.pool_axes,
            units=self.units,
            pca=self.pca,
        )
        if self.components is not None:
            message.projection.component_count, message.projection.seed = self.components, self.seed
        return message


def reduction_of(fields: Mapping[str, Any]) -> Reduction:
    """Return the reduction of a JSON object with its fields. Raises InvalidRequestError."""
    try:
        return Reduction(**fields)
    except TypeError as error:
        valid = ", ".join(field.name for field in dataclass_fields(Reduction))
        raise InvalidRequestError(
            f"`reduction` must be an object with fields among {valid}, got {fields!r}: {error}."
        ) from error


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    values = values.tolist() if hasattr(values, "tolist") else values  # of arrays and tensors
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        values = list(values)
        if any(_is_truth(value) for value in values):
            # A mask's length can't be checked here: only the server knows how many units there are.
            raise InvalidRequestError(
                f"`{name}` must be whole numbers, got a mask of True and False: give the places of "
                "True, np.flatnonzero(mask)."
            )
    else:
        raise InvalidRequestError(
            f"`{name}` must be whole numbers, such as (0, 5), got {values!r}."
        )
    numbers = tuple(_whole_number(name, value) for value in values)
    if wrong := [number for number in numbers if not 0 <= number < 2**32]:
        raise InvalidRequestError(f"`{name}` must be from 0 to 2**32 - 1, got {wrong[0]!r}.")
    return numbers


def _whole_number(name: str, value: Any) -> int:
    is_whole = isinstance(value, Real) and not _is_truth(value)
    if is_whole and (isinstance(value, Integral) or float(value).is_integer()):
        return int(value)
    raise InvalidRequestError(f"`{name}` must be whole, got {value!r}.")


def _is_truth(value: Any) -> bool:
    """Tell whether a value is True or False, of Python or numpy, which is not imported here."""
    return type(value).__name__ in ("bool", "bool_")


def choice(name: str, value: Any, valid: Mapping[str, int]) -> int:
    """Return the number of a choice. Raises InvalidRequestError."""
    return valid[choose(name, value, valid)]
