"""The library's extractor: features of a model's modules by the names THINGSvision gave them.

Forward passes run on the server; files and formats stay with the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client import Client, shared_client
from .errors import InvalidRequestError, MissingDependencyError
from .images import queue_files
from .model import Model
from .outline import outline
from .parameters import full_name, weights_of
from .preprocessing import PreprocessingOverrides
from .records import ModelInfo, ModuleInfo
from .texts import text_tower
from .tokens import token_extraction_number
from .utils.data import DataLoader, ServerTransforms

if TYPE_CHECKING:
    from .activations import Array
    from .extraction import Progress
    from .texts import Texts


OUTPUT_TYPES = ("ndarray", "tensor")


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
    without it). PARAMETERS says what else `model_parameters` may have. `model_path` is a file of
    your own weights, which is uploaded. `device` is one of the server's: for another there is a
    warning, and the server's own is used; None expects nothing. Raises InvalidRequestError, and
    UnknownSourceError or UnknownModelError with near matches (all are ValueErrors).
    """
    parameters = dict(model_parameters or {})
    own_file = model_path is not None
    weights = weights_of(parameters, pretrained=pretrained, own_file=own_file)
    model = Model(source, full_name(model_name, parameters), weights)
    token_extraction = parameters.get("token_extraction")
    token_extraction_number(token_extraction)
    client = shared_client(server)
    info = _listed(client, model)
    _check_device(client, device)
    if model_path is not None:
        model = replace(model, weights=_uploaded(client, model_path))
    return Extractor(model, client, info, token_extraction)


class Extractor:
    """A model on a server, ready to give features; made by `get_extractor`."""

    def __init__(
        self,
        model: Model,
        client: Client,
        info: ModelInfo | None = None,
        token_extraction: str | None = None,
    ) -> None:
        self.model = model
        self.token_extraction = token_extraction
        self._client = client
        self._info = info
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
        pass. `flatten_acts` gives images x (everything else, C order). The dataset's transforms
        and the extractor's `token_extraction` apply. Raises UnknownModuleError (a ValueError),
        InvalidRequestError, and MissingDependencyError for `tensor` without torch.
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
            token_extraction=self.token_extraction,
            preprocessing=batches.dataset.transforms.overrides,
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

    def extract_text_features(
        self,
        texts: Texts,
        module_name: str | None = None,
        output_type: str = "ndarray",
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Return texts x width, float32: the model's text tower, in the space of its images.

        `module_name` takes another module that sees texts. Raises InvalidRequestError where the
        model sees none.
        """
        convert = _OUTPUTS[_checked_output_type(output_type)]()
        module = text_tower(self._module_list()) if module_name is None else module_name
        result = self._client.extract_texts(self.model, texts, module, batch_size=batch_size)
        return convert(result.features[module])

    def get_transformations(
        self, resize_dim: int = 256, crop_dim: int = 224, apply_center_crop: bool = True
    ) -> ServerTransforms:
        """Return what the server does to images, for ImageDataset(transforms=...).

        Without arguments it is the model's own preprocessing, whatever its sizes. With other
        values than these, all three are taken as they are given: the shorter side is resized to
        `resize_dim`, and a centre of `crop_dim` x `crop_dim` is cut out, or not. The rest stays
        the model's own.
        """
        overrides = None
        if (resize_dim, crop_dim, apply_center_crop) != (256, 224, True):
            crop = crop_dim if apply_center_crop else False
            overrides = PreprocessingOverrides(resize=resize_dim, crop=crop)
        return ServerTransforms(overrides, self._client.preprocessing(self.model))

    def get_backend(self) -> str:
        """Return `pt` or `tf`: the framework that runs the model on the server.

        What a server runs without listing it are checkpoints that it fetches by name: PyTorch's.
        """
        return self._info.backend if self._info and self._info.backend else "pt"

    def get_output_types(self) -> list[str]:
        """Return what `output_type` may be."""
        return list(OUTPUT_TYPES)

    def _module_list(self) -> list[ModuleInfo]:
        if self._modules is None:
            self._modules = self._client.modules(self.model)
        return self._modules


def _uploaded(client: Client, model_path: str | Path) -> str:
    if "://" in str(model_path):
        raise InvalidRequestError(
            f"model_path {str(model_path)!r} is a URL: download it and give the file."
        )
    return f"sha256:{client.upload_weights(model_path)}"


def _listed(client: Client, model: Model) -> ModelInfo | None:
    """Raise as soon as a script names its model; a listed one costs no building."""
    found = client.models(model.source, escape(model.name))
    if not found:
        client.modules(model)
    return found[0] if found else None


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
