"""Maps features into a space that is aligned with human similarity judgments, on this machine.

gLocal: Muttenthaler et al. 2023, "Improving neural network representations using human similarity
judgments". Its authors publish the transforms as files; none comes with this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..arrays import Array, as_numbers
from ..calls.arguments import expand_home
from ..errors import InvalidRequestError
from ..files import file_stem
from ..labels import keep_rows
from ..values.model import Model
from .outputs import converter

FOLDER_VARIABLE = "THINGSVISION_TRANSFORMS_DIR"
"""Sets the folder of transforms; by default `~/.cache/thingsvision/transforms`."""

_PUBLISHED = "https://github.com/LukasMut/gLocal, transforms/MODEL/MODULE/transform.npz"


@dataclass(frozen=True)
class Transform:
    """A z-score, then an affine map: (features - mean) / std @ weights + bias.

    `mean` and `std` are numbers or have an entry per unit, `weights` is units x dimensions, `bias`
    is 0 or has an entry per dimension. Raises InvalidRequestError if their shapes don't match.
    """

    mean: Array
    std: Array
    weights: Array
    bias: Array

    def __post_init__(self) -> None:
        fits = self.weights.ndim == 2 and (
            _is_of(self.mean, self.weights.shape[0])
            and _is_of(self.std, self.weights.shape[0])
            and _is_of(self.bias, self.weights.shape[1])
        )
        if not fits:
            shapes = {name: value.shape for name, value in vars(self).items()}
            raise InvalidRequestError(
                f"The shapes of mean, std, weights and bias must match, got {shapes}."
            )
        if not np.all(np.isfinite(self.std) & (self.std != 0)):
            raise InvalidRequestError(
                "`std` must be finite and not zero, got zeros or values that are not finite."
            )

    def apply(self, features: Array) -> Array:
        """Return images x dimensions of images x units. Raises InvalidRequestError."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise InvalidRequestError(
                f"Features for this transform must be images x {len(self.weights)}, got "
                f"{features.shape}: extract the module that it was made for, flattened."
            )
        aligned: Array = (features - self.mean) / self.std @ self.weights + self.bias
        return aligned


def align(
    features: Any,
    model: Model,
    module_name: str,
    *,
    alignment_type: str = "gLocal",
    transform: str | Path | None = None,
) -> Any:
    """Return aligned features, images x dimensions, as an array or a tensor like `features`."""
    path = find_transform(model, module_name, alignment_type) if transform is None else transform
    aligned = keep_rows(
        features, read_transform(Path(path)).apply(as_numbers(features, "Features"))
    )
    if not hasattr(features, "detach"):
        return aligned
    return converter("tensor")(aligned)


def find_transform(model: Model, module_name: str, alignment_type: str) -> Path:
    """Return the file of a module's transform. Raises InvalidRequestError if there is none."""
    places = _places(model, module_name, alignment_type)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise InvalidRequestError(
            f"There is no {alignment_type} transform for {module_name!r} of {model}: put it at "
            f"{places[-1]} (or {places[0]}, for these weights alone), or give transform=FILE. "
            f"The transforms of gLocal are published at {_PUBLISHED}."
        )
    return found


def read_transform(path: Path) -> Transform:
    """Return the transform in an .npz file with mean, std, weights and optionally bias.

    Raises InvalidRequestError.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, AttributeError, TypeError) as error:
        raise InvalidRequestError(f"{path} is not a readable .npz file: {error}") from error
    try:
        return _transform(values)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{path} does not contain a transform: {error}") from error


def _transform(values: Mapping[str, Array]) -> Transform:
    if missing := [name for name in ("mean", "std", "weights") if name not in values]:
        raise InvalidRequestError(f"it lacks {', '.join(missing)}; it has {', '.join(values)}.")
    bias = values.get("bias", np.zeros((), values["weights"].dtype))
    return Transform(values["mean"], values["std"], values["weights"], bias)


def _places(model: Model, module_name: str, alignment_type: str) -> tuple[Path, Path]:
    """Return where a transform may be: for these weights, and for any weights of the model."""
    default = Path.home() / ".cache" / "thingsvision" / "transforms"
    root = (
        Path(expand_home(os.environ.get(FOLDER_VARIABLE) or default))
        / alignment_type
        / model.source
    )
    file_name = f"{file_stem(module_name)}.npz"
    of_weights = f"@{file_stem(model.weights)}" if model.weights else ""
    return root / f"{model.name}{of_weights}" / file_name, root / model.name / file_name


def _is_of(values: Array, count: int) -> bool:
    return values.dtype.kind in "fiu" and values.shape in ((), (1,), (count,))
