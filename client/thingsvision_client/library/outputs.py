"""Features in the form that a user requests: arrays or tensors, flattened by their function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from ..arrays import as_array
from ..calls.arguments import as_text, as_texts, choose
from ..errors import InvalidRequestError, MissingDependencyError
from ..labels import keep_rows

if TYPE_CHECKING:
    from ..arrays import Array

OUTPUT_TYPES = ("ndarray", "tensor")

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Output:
    """The modules that a call names, and the form of their features.

    Raises InvalidRequestError, and MissingDependencyError for `tensor` without torch.
    """

    def __init__(
        self, module_name: str | None, module_names: Sequence[str] | None, output_type: str
    ) -> None:
        self.modules = _module_names(module_name, module_names)
        self._is_single = module_name is not None
        self._convert = converter(output_type)

    def form(self, arrays: Mapping[str, Array]) -> Any:
        """Return an array or tensor if one module was named, and a dict of them if several were."""
        features = {name: self._convert(array) for name, array in arrays.items()}
        return features[self.modules[0]] if self._is_single else features


def _module_names(module_name: str | None, module_names: Sequence[str] | None) -> list[str]:
    if (module_name is None) == (module_names is None):
        raise InvalidRequestError("Give exactly one of `module_name` and `module_names`.")
    if module_name is not None:
        return [as_text("module_name", module_name)]
    if isinstance(module_names, str):
        raise InvalidRequestError(
            f"`module_names` must be a list, got {module_names!r}: for one module, use module_name."
        )
    return as_texts("module_names", module_names)


def converter(output_type: str) -> Callable[[Array], Any]:
    """Return a function that converts an array to the output type; memory is shared.

    Raises InvalidRequestError, and MissingDependencyError for `tensor` without torch.
    """
    return _same if choose("output_type", output_type, OUTPUT_TYPES) == "ndarray" else _to_tensor()


def flattener(function: Callable[..., Any], owner: Any) -> Callable[[Array], Array]:
    """Return a function that flattens an array of images x shape by a user's function.

    The user's function takes the activations, or `owner` and the activations, as in the library:
    tensors if torch is installed, else arrays. Its result must have a row per image.
    """
    before = (owner,) if _parameter_count(function) > 1 else ()

    def flatten(array: Array) -> Array:
        flat = as_array(function(*before, _as_tensor(array)))
        if flat.shape[:1] != array.shape[:1]:
            raise InvalidRequestError(
                f"`flatten_fn` must return a row per image, got {flat.shape} from {array.shape}."
            )
        return keep_rows(array, flat)

    return flatten


def _parameter_count(function: Callable[..., Any]) -> int:
    parameters = signature(function).parameters.values()
    return sum(one.kind in _POSITIONAL and one.default is one.empty for one in parameters)


def _same(array: Array) -> Array:
    return array


def _as_tensor(array: Array) -> Any:
    try:
        return _to_tensor()(array)
    except MissingDependencyError:  # as with Keras networks
        return array


def _to_tensor() -> Callable[[Array], Any]:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "output_type='tensor' needs torch: pip install torch, or use 'ndarray'."
        ) from error
    return torch.from_numpy
