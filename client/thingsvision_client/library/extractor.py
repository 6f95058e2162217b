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

from ..client import Client, shared_client
from ..errors import InvalidRequestError
from ..images.texts import queue_texts, text_tower
from ..jobs import FolderOptions
from ..origins import recording_fingerprints, remember_extraction
from ..utils.data import ImageBatch
from ..utils.transforms import ServerTransforms
from ..values.model import Model
from ..values.options import ExtractOptions
from ..values.preprocessing import PreprocessingOverrides
from ..values.records import ModelInfo, ModuleInfo
from .alignment import align
from .batch_extraction import BatchExtraction
from .batches import batches_of
from .outline import outline
from .outputs import OUTPUT_TYPES, converter
from .parameters import options_of, qualified_model_name, weights_of
from .request import FeatureRequest, ServedModel

if TYPE_CHECKING:
    from ..images.texts import Texts
    from ..progress import Progress


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
    model = Model(source, qualified_model_name(model_name, parameters), weights)
    options = options_of(parameters)
    client = shared_client(server)
    info = _find_listing(client, model)
    check_device(client, device)
    if model_path is not None:
        model = replace(model, weights=_upload_weights(client, model_path))
    # What a server runs without listing it are checkpoints fetched by name: PyTorch's.
    backend = info.backend if info and info.backend else "pt"
    return Extractor(ServedModel(client, model, backend, options))


class Extractor:
    """A model on a server, ready to give features; made by `get_extractor`."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._modules: list[ModuleInfo] | None = None

    @property
    def model(self) -> Model:
        """The model, as `Client` knows it."""
        return self._served.model

    @property
    def client(self) -> Client:
        """The client of the server that runs the model."""
        return self._served.client

    @property
    def backend(self) -> str:
        """`pt` or `tf`: the framework that runs the model on the server."""
        return self._served.backend

    @property
    def token_extraction(self) -> str | None:
        """What is taken of sequences of tokens; None: all of them."""
        return self.options.token_extraction

    @property
    def options(self) -> ExtractOptions:
        """How features are computed and sent."""
        return self._served.options

    @property
    def changes(self) -> PreprocessingOverrides | None:
        """Changes of the model's own preprocessing where a dataset asks for none."""
        return self.options.preprocessing

    def extract_features(
        self,
        batches: Any,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        flatten_acts: bool = False,
        output_type: str = "ndarray",
        output_dir: str | Path | None = None,
        step_size: int | None = None,
        file_name_suffix: str = "",
        save_in_one_file: bool = False,
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Return images x shape, float32, in the order of the dataset's `file_names.txt`.

        `batches` is a DataLoader of this package, whose images the server preprocesses as the
        dataset's transforms say, or any iterable of arrays or tensors, images x one input's shape,
        that you preprocessed (a PyTorch DataLoader; of (images, targets) the first is taken).
        Give `module_name` for an array, or `module_names` for a dict of arrays from one forward
        pass. `flatten_acts` gives images x (everything else, C order).

        With `output_dir` rows go to disk as they arrive, and None is returned:
        `{module}/features{file_name_suffix}_{start}-{end}.npy` (`.pt` for tensors) for every
        `step_size` batches, or joined at the end with `save_in_one_file`. The same call goes on
        where it was interrupted.

        Raises UnknownModuleError (a ValueError), InvalidRequestError, TypeError for what is no
        batch, and MissingDependencyError for `tensor` without torch.
        """
        modules = _module_names(module_name, module_names)
        convert = converter(output_type)
        images = batches_of(batches)
        request = FeatureRequest(
            self._served, images, modules, flatten=flatten_acts, progress=progress
        )
        if output_dir is not None:
            options = FolderOptions(
                step_size=step_size,
                suffix=file_name_suffix,
                output_type=output_type,
                in_one_file=save_in_one_file,
            )
            request.to_folder(Path(output_dir), options)
            return None
        features = {name: convert(array) for name, array in request.arrays().items()}
        return features if module_name is None else features[module_name]

    def extract_batch(
        self,
        batch: Any,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        flatten_acts: bool = False,
        output_type: str = "ndarray",
    ) -> Any:
        """Return the features of one batch, from one forward pass.

        `batch` is an array or tensor of images x one input's shape, that you preprocessed, or what
        iterating a DataLoader of this package gives; all else is as in `extract_features`.
        """
        batches = batch if isinstance(batch, ImageBatch) else [batch]
        return self.extract_features(
            batches,
            module_name,
            module_names,
            flatten_acts=flatten_acts,
            output_type=output_type,
        )

    def batch_extraction(
        self,
        module_name: str | None = None,
        module_names: Sequence[str] | None = None,
        output_type: str = "ndarray",
    ) -> BatchExtraction:
        """Return a context for the loop over a data pipeline of your own.

        `with extractor.batch_extraction("layer3") as e:`, then `e.extract_batch(batch)` for each.
        """
        _module_names(module_name, module_names)
        converter(output_type)

        def extract(batch: Any, flatten_acts: bool) -> Any:
            return self.extract_batch(
                batch,
                module_name,
                module_names,
                flatten_acts=flatten_acts,
                output_type=output_type,
            )

        return BatchExtraction(extract)

    def align(
        self,
        features: Any,
        module_name: str,
        alignment_type: str = "gLocal",
        *,
        transform: str | Path | None = None,
    ) -> Any:
        """Return features of a module (images x units) aligned with human similarity judgments.

        The transform (mean, std, weights, maybe bias) is an .npz file: `transform`, or
        `{alignment_type}/{source}/{model}/{module}.npz` in ~/.cache/thingsvision/transforms or the
        folder that THINGSVISION_TRANSFORMS_DIR names. Raises InvalidRequestError.
        """
        return align(
            features, self.model, module_name, alignment_type=alignment_type, transform=transform
        )

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
        convert = converter(output_type)
        module = text_tower(self._module_list()) if module_name is None else module_name
        queue, sent = recording_fingerprints(queue_texts(texts))
        # Options about images don't apply to texts.
        options = replace(
            self.options, batch_size=batch_size, token_extraction=None, preprocessing=None
        )
        result = self.client.extract(self.model, queue, module, **vars(options))
        remember_extraction(result, sent, options=options)
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
        changes = self.changes
        if (resize_dim, crop_dim, apply_center_crop) != (256, 224, True):
            crop = crop_dim if apply_center_crop else False
            changes = replace(changes or PreprocessingOverrides(), resize=resize_dim, crop=crop)
        return ServerTransforms(changes, self.client.preprocessing(self.model))

    def get_backend(self) -> str:
        """Return `pt` or `tf`: the framework that runs the model on the server."""
        return self.backend

    def get_output_types(self) -> list[str]:
        """Return what `output_type` may be."""
        return list(OUTPUT_TYPES)

    def _module_list(self) -> list[ModuleInfo]:
        if self._modules is None:
            self._modules = self.client.modules(self.model)
        return self._modules


def check_device(client: Client, device: str | None) -> None:
    """Warn the caller's caller if the server lacks a device."""
    if device is None:
        return
    names = [entry.name for entry in client.residency().devices]
    if not any(str(device) in (name, name.partition(":")[0]) for name in names):
        warnings.warn(
            f"The server has no device {str(device)!r} (it has {', '.join(names)}): it uses its "
            "own.",
            stacklevel=3,
        )


def _upload_weights(client: Client, model_path: str | Path) -> str:
    if "://" in str(model_path):
        raise InvalidRequestError(
            f"model_path {str(model_path)!r} is a URL: download it and give the file."
        )
    return f"sha256:{client.upload_weights(model_path)}"


def _find_listing(client: Client, model: Model) -> ModelInfo | None:
    """Return a model's entry in the list, if any; raise at once if the server can't run it."""
    found = client.models(model.source, escape(model.name))
    if not found:
        client.modules(model)
    return found[0] if found else None


def _module_names(module_name: str | None, module_names: Sequence[str] | None) -> list[str]:
    if (module_name is None) == (module_names is None):
        raise InvalidRequestError("Give exactly one of `module_name` and `module_names`.")
    if isinstance(module_names, str):
        raise InvalidRequestError(
            f"`module_names` must be a list, got {module_names!r}: give module_name, or a list."
        )
    return [module_name] if module_name is not None else list(module_names or [])
