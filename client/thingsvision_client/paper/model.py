"""The model of THINGSvision's paper: named alone, it gives features and targets together.

Stands on today's extractor; knows neither files nor formats.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import shared_client
from ..errors import InvalidRequestError
from ..library.extractor import Extractor, check_device, get_extractor
from ..library.outline import outline
from ..library.parameters import full_name
from ..utils.data import BACKENDS, DataLoader, ServerTransforms
from .catalogue import find_model
from .class_scores import class_scores
from .labelled import labelled
from .prompt import ask_module

if TYPE_CHECKING:
    from ..arrays import Array
    from ..values.records import ModuleInfo


class Model:
    """A network on the server, by the names and calls of the paper.

    `model_name` is looked for in torchvision, custom (CORnet and others), ssl, timm for backend
    `pt`, and in keras, custom for `tf`; the first that has it is taken, `source` takes another.
    The paper's `clip-ViT` and `clip-RN` are known. `pretrained` False gives random weights, always
    the same (seed 0). `model_path` is a file of your own weights, which is uploaded. For a `device`
    that the server lacks there is a warning, and its own is used. `model_parameters` are those of
    `get_extractor`. Raises UnknownModelError with near matches, and InvalidRequestError.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool,
        device: str | None,
        model_path: str | Path | None = None,
        backend: str = "pt",
        *,
        server: str | None = None,
        source: str | None = None,
        model_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise InvalidRequestError(f"backend is one of {', '.join(BACKENDS)}, not {backend!r}.")
        self.model_name = model_name
        self.pretrained = pretrained
        self.device = device
        self.model_path = model_path
        self.backend = backend
        parameters = dict(model_parameters or {})
        name = full_name(model_name, parameters)
        if source is None:
            found = find_model(shared_client(server), name, backend)
            source, name = found.source, found.name
        parameters.pop("variant", None)  # is in the name by now
        self.extractor: Extractor = get_extractor(
            name, pretrained, None, source, model_path, parameters, server=server
        )
        """Today's extractor of this model."""
        if self.extractor.backend != backend:
            raise InvalidRequestError(
                f"{source}/{name} runs with backend={self.extractor.backend!r}, not {backend!r}."
            )
        check_device(self.extractor.client, device)

    def __repr__(self) -> str:
        return f"Model({self.extractor.model})"

    def show(self) -> str:
        """Print the modules, ask for the name of one, and return it.

        TAB completes names at a terminal. Elsewhere the first line of the input is read;
        UnknownModuleError or InvalidRequestError if that is of no use.
        """
        modules = self.modules()
        print(outline(modules))
        return ask_module(modules)

    def modules(self) -> list[ModuleInfo]:
        """Return what the server knows of the modules, in order of execution."""
        return self.extractor.client.modules(self.extractor.model)

    def extract_features(
        self,
        data_loader: Any,
        module_name: str,
        batch_size: int | None = None,
        flatten_acts: bool | None = None,
        device: str | None = None,
        clip: bool = False,
        return_probabilities: bool = False,
    ) -> tuple[Array, ...]:
        """Return features, images x shape, float32, and targets, images x 1: numbers of classes.

        `data_loader` is what `vision.load_dl` returns, or any iterable of (images, targets) that
        you preprocessed. Rows are all images, in its order. `flatten_acts` has no default (section
        2.4.1 of the paper): True gives images x (everything else, C order), False the activations'
        own shape. `batch_size` is the data loader's (a warning, if not), `device` the model's,
        and `clip` tells nothing that the server does not know: leave them out.

        `return_probabilities` adds images x classes, from the same forward pass: the softmax of the
        model's output.

        Raises UnknownModuleError and InvalidRequestError (both ValueErrors), and TypeError for
        what is no data loader.
        """
        flatten = checked_flattening(flatten_acts)
        self._check_choices(data_loader, batch_size, device)
        scores = class_scores(self.modules()) if return_probabilities else None
        images = labelled(data_loader)
        asked = [module_name] if scores is None else [module_name, scores.module]
        features = self.extractor.extract_features(
            images.batches, module_names=list(dict.fromkeys(asked)), flatten_acts=flatten
        )
        found = features[module_name], images.targets()
        return found if scores is None else (*found, scores.probabilities(features[scores.module]))

    def get_transformations(
        self, resize_dim: int = 256, crop_dim: int = 224, apply_center_crop: bool = True
    ) -> ServerTransforms:
        """Return what the server does to images, for `vision.load_dl(transforms=...)`.

        Without arguments it is the model's own preprocessing; sizes are as in the extractor's
        `get_transformations`.
        """
        return self.extractor.get_transformations(resize_dim, crop_dim, apply_center_crop)

    def _check_choices(self, data_loader: Any, batch_size: int | None, device: str | None) -> None:
        if isinstance(data_loader, DataLoader) and batch_size not in (None, data_loader.batch_size):
            warnings.warn(
                f"batch_size={batch_size!r} is not that of data_loader, {data_loader.batch_size}, "
                "which is what counts.",
                stacklevel=3,
            )
        if device is not None and str(device) != str(self.device):
            warnings.warn(
                f"device={str(device)!r} is not that of the model, {str(self.device)!r}, which is "
                "what counts.",
                stacklevel=3,
            )


def checked_flattening(flatten_acts: bool | None) -> bool:
    """Return the choice. Raises InvalidRequestError where it was not made."""
    if flatten_acts is None:
        raise InvalidRequestError(
            "flatten_acts has no default: True gives a row of numbers per image (for RDMs and "
            "regression), False keeps the activations' own shape, such as channels x height x "
            "width. Write flatten_acts=True or flatten_acts=False."
        )
    return bool(flatten_acts)
