"""The library's extractor: features of a model's modules by the names THINGSvision gave them.

Forward passes run on the server; files and formats stay with the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client import Client, shared_client
from .errors import InvalidRequestError, MissingDependencyError
from .images import queue_files
from .model import Model
from .outline import outline
from .records import ModuleInfo
from .utils.data import DataLoader, ServerTransforms

if TYPE_CHECKING:
    from .activations import Array
    from .extraction import Progress


OUTPUT_TYPES = ("ndarray", "tensor")

PARAMETERS = ("seed", "weights")
"""Keys of model_parameters: the seed of random weights, or the tag of pretrained ones."""

_TENSORFLOW_SOURCES = frozenset({"keras"})


def get_extractor(
    model_name: str,
    pretrained: bool,
    device: str | None,
    source: str,
    model_path: str | Path | None = None,
    model_parameters: Mapping[str, Any] | None = None,
    *,
    server: str | None = None,
) -> Extractor:
    """Return an extractor of a model on the server.

    `pretrained` False gives random weights, the same for the same `model_parameters["seed"]` (0
    without it); `model_parameters["weights"]` names a pretrained tag. `model_path` is a file of
    your own weights, which is uploaded. `device` is one of the server's: for another there is a
    warning, and the server's own is used; None expects nothing. Raises InvalidRequestError, and
    UnknownSourceError or UnknownModelError with near matches (all are ValueErrors).
    """
    parameters = dict(model_parameters or {})
    model = Model(source, model_name, _weights(pretrained, parameters))
    if model_path is not None and parameters:
        raise InvalidRequestError("model_path has the weights: leave model_parameters out.")
    client = shared_client(server)
    _check_exists(client, model)
    _check_device(client, device)
    if model_path is not None:
        model = Model(source, model_name, _uploaded(client, model_path))
    return Extractor(model, client)


class Extractor:
    """A model on a server, ready to give features; made by `get_extractor`."""

    def __init__(self, model: Model, client: Client) -> None:
        self.model = model
        self._client = client
        self._modules: list[ModuleInfo] | None = None

    def extract_features(
        self,
        batches: DataLoader,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        flatten_acts: bool = False,
        output_type: str = "ndarray",
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Return images x shape, float32, in the order of the dataset's `file_names.txt`.

        Give `module_name` for an array, or `module_names` for a dict of arrays from one forward
        pass. `flatten_acts` gives images x (everything else, C order). Raises UnknownModuleError
        (a ValueError), InvalidRequestError, and MissingDependencyError for `tensor` without torch.
        """
        if (module_name is None) == (module_names is None):
            raise InvalidRequestError("Give module_name or module_names, exactly one of them.")
        if not isinstance(batches, DataLoader):
            raise TypeError(f"batches is a DataLoader of this package, not {type(batches)}")
        convert = _OUTPUTS[_checked_output_type(output_type)]()
        result = self._client.extract(
            self.model,
            queue_files(batches.dataset.root, batches.dataset.names),
            [module_name] if module_name is not None else list(module_names or []),
            batch_size=batches.batch_size,
            flatten=flatten_acts,
            progress=progress,
        )
        features = {name: convert(array) for name, array in result.features.items()}
        return features if module_name is None else features[module_name]

    def show_model(self) -> None:
        """Print the model's modules as a tree, with their settings and output shapes."""
        print(outline(self._module_list()))

    def get_module_names(self) -> list[str]:
        """Return the names of all modules, in order of execution; `""` is the whole model."""
        return [module.name for module in self._module_list()]

    def get_transformations(
        self, resize_dim: int = 256, crop_dim: int = 224, apply_center_crop: bool = True
    ) -> ServerTransforms:
        """Return what stands for the model's own preprocessing, for ImageDataset(transforms=...).

        The server applies it whatever its sizes. Raises InvalidRequestError for other sizes
        than the default.
        """
        if (resize_dim, crop_dim, apply_center_crop) != (256, 224, True):
            raise InvalidRequestError(
                "The server applies the model's own preprocessing: leave resize_dim, crop_dim and "
                "apply_center_crop out."
            )
        return ServerTransforms()

    def get_backend(self) -> str:
        """Return `pt` or `tf`: the framework that runs models of this source."""
        return "tf" if self.model.source in _TENSORFLOW_SOURCES else "pt"

    def get_output_types(self) -> list[str]:
        """Return what `output_type` may be."""
        return list(OUTPUT_TYPES)

    def _module_list(self) -> list[ModuleInfo]:
        if self._modules is None:
            self._modules = self._client.modules(self.model)
        return self._modules


def _weights(pretrained: bool, parameters: dict[str, Any]) -> str | None:
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise InvalidRequestError(
            f"model_parameters has no {unknown}; valid: {', '.join(PARAMETERS)}."
        )
    if pretrained and "seed" in parameters:
        raise InvalidRequestError("model_parameters['seed'] needs pretrained=False.")
    if not pretrained and "weights" in parameters:
        raise InvalidRequestError("model_parameters['weights'] needs pretrained=True.")
    return parameters.get("weights") if pretrained else f"random:{parameters.get('seed', 0)}"


def _uploaded(client: Client, model_path: str | Path) -> str:
    if "://" in str(model_path):
        raise InvalidRequestError(
            f"model_path {str(model_path)!r} is a URL: download it and give the file."
        )
    return f"sha256:{client.upload_weights(model_path)}"


def _check_exists(client: Client, model: Model) -> None:
    """Raise as soon as a script names its model; a listed one costs no building."""
    if not client.models(model.source, escape(model.name)):
        client.modules(model)


def _check_device(client: Client, device: str | None) -> None:
    if device is None:
        return
    names = [entry.name for entry in client.residency().devices]
    if not any(device in (name, name.partition(":")[0]) for name in names):
        warnings.warn(
            f"The server has no device {device!r} (it has {', '.join(names)}): it uses its own.",
            stacklevel=3,
        )


def _checked_output_type(output_type: str) -> str:
    if output_type not in OUTPUT_TYPES:
        raise InvalidRequestError(
            f"output_type is one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}."
        )
    return output_type


def _same(array: Array) -> Array:
    return array


def _to_tensor() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "output_type='tensor' needs torch: pip install torch, or take 'ndarray'."
        ) from error
    return torch.from_numpy


_OUTPUTS: dict[str, Any] = {"ndarray": lambda: _same, "tensor": _to_tensor}
