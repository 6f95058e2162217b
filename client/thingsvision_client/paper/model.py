"""The model of THINGSvision's paper: found by its name alone, it returns features and targets.

It uses today's extractor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.arguments import choose
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..client import shared_client
from ..display.cards import Shown
from ..errors import BadImagesError, InvalidRequestError
from ..library.devices import DeviceName, check_device
from ..library.extractor import get_extractor
from ..library.outline import outline
from ..library.parameters import qualified_model_name
from ..library.request import Choices
from ..utils.data import DataLoader
from ..utils.transforms import BACKENDS, ServerTransforms
from .attributes import ModelAttributes
from .catalogue import find_model
from .class_scores import class_scores
from .labelled import labelled_images
from .prompt import ask_module

if TYPE_CHECKING:
    from ..arrays import Array
    from ..values.records import ModuleInfo

_ADVICE = (
    "The features and targets of the other images are in this error's `result`: repair or remove "
    "these images, or name the others with file_names of vision.load_dl."
)


@check_arguments
class Model(Shown, ModelAttributes):
    """A model on the server, with the names and calls of the THINGSvision paper.

    Args:
        model_name: Name of the model, such as `alexnet`; looked up in torchvision, custom (CORnet
            and others), ssl and timm for backend `pt`, and in keras and custom for `tf`. The
            first source that has it is used. The paper's `clip-ViT` and `clip-RN` work too.
        pretrained: Pretrained weights; False gives random ones, always the same (seed 0).
        device: Device of the server that you expect, or None. For any other there is a warning, and
            the server uses its own.
        model_path: File of your own weights, which is uploaded.
        backend: `pt` or `tf`.
        server: Address, host:port; by default that of `Client()`.
        source: Another source for the model.
        model_parameters: As in `get_extractor`.
        share: Whether to let others use the file of `model_path` too, as with `Client.share`, or
            the network that `load_model` of a subclass assigns.

    Attributes:
        extractor: The Extractor of this model.

    Raises:
        UnknownModelError: No source has the model; near matches are named.
        InvalidRequestError: An unknown backend, or one that does not run the model.

    Example:
        ```python
        from thingsvision_client.model_class import Model

        model = Model("alexnet", pretrained=True, device=None, backend="pt")
        print(model)
        ```

    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool,
        device: DeviceName,
        model_path: str | Path | None = None,
        backend: str = "pt",
        *,
        server: str | None = None,
        source: str | None = None,
        model_parameters: Mapping[str, Any] | None = None,
        share: bool = False,
    ) -> None:
        choose("backend", backend, BACKENDS)
        self._asked = Choices(
            model_name,
            pretrained=pretrained,
            device=device,
            model_path=model_path,
            model_parameters=model_parameters or {},
            share=share,
        )
        self._backend = backend
        self._source = source
        self._server = server
        self.load_model()
        check_device(self.extractor.client, device)

    def load_model(self) -> None:
        """Find the model on the server, by the name that was given.

        A subclass may assign a network of its own to `model` here instead.

        Raises:
            UnknownModelError: No source has the model; near matches are named.
            InvalidRequestError: The backend does not run the model.

        Example:
            ```python
            from thingsvision_client.model_class import Model

            model = Model("alexnet", pretrained=True, device=None)
            model.load_model()  # what `model.model = ...` replaced, if anything, is back
            ```

        """
        asked, source = self._asked, self._source
        parameters = dict(asked.model_parameters)
        name = qualified_model_name(asked.model_name, parameters)
        if source is None:
            found = find_model(shared_client(self._server), name, self._backend)
            source, name = found.source, found.name
        parameters.pop("variant", None)  # now part of the name
        extractor = get_extractor(
            name,
            asked.pretrained,
            device=None,
            source=source,
            model_path=asked.model_path,
            model_parameters=parameters,
            server=self._server,
            share=asked.share,
        )
        if extractor.backend != self._backend:
            raise InvalidRequestError(
                f"`backend` must be {extractor.backend!r} for {source}/{name}, "
                f"got {self._backend!r}."
            )
        self.extractor = extractor

    def _facts(self) -> dict[str, Any]:
        return {"model": str(self.extractor.model), "backend": self.backend}

    def show(self) -> str:
        """Print the modules, ask for the name of one, and return it.

        At a terminal, TAB completes names. Otherwise the first line of the input is read.

        Returns:
            The name that was typed.

        Raises:
            UnknownModuleError: The input is not the name of a module (not at a terminal).
            InvalidRequestError: There is no input, or the module can't be extracted.

        Example:
            ```python
            import io
            import sys
            from thingsvision_client.model_class import Model

            sys.stdin = io.StringIO("features.10")  # without this line, you are asked
            module_name = Model("alexnet", pretrained=True, device=None).show()
            ```

        """
        modules = self.modules()
        print(outline(modules))
        return ask_module(modules)

    def modules(self) -> list[ModuleInfo]:
        """Return the modules of the model in order of execution.

        Returns:
            Names, types, output shapes for one image, and whether a module can be extracted.

        Example:
            ```python
            from thingsvision_client.model_class import Model

            model = Model("alexnet", pretrained=True, device=None)
            print([module.name for module in model.modules() if module.extractable])
            ```

        """
        return self.extractor.client.modules(self.extractor.model)

    def extract_features(
        self,
        data_loader: Any,
        module_name: str,
        batch_size: int | None = None,
        flatten_acts: bool | None = None,
        device: DeviceName = None,
        clip: bool = False,
        return_probabilities: bool = False,
    ) -> tuple[Array, ...]:
        """Return features and the class number of each image, in the order of the data loader.

        Args:
            data_loader: What `vision.load_dl` returned, or any iterable of (images, targets) that
                you preprocessed.
            module_name: Name of the module.
            batch_size: The data loader's, which is used anyway; another one gives a warning.
            flatten_acts: True gives images x units (C order), False the activations' own shape.
                There is no default (section 2.4.1 of the paper).
            device: The model's, which is used anyway; another one gives a warning.
            clip: Has no effect: the server knows which models are CLIP's.
            return_probabilities: Also return class probabilities, from the same forward pass: the
                softmax of the model's output.

        Returns:
            Features (images x shape, float32), targets (images x 1) and, if asked for,
            probabilities (images x classes).

        Raises:
            UnknownModuleError: The model has no such module.
            InvalidRequestError: `flatten_acts` is missing, or the model or the data loader has no
                classes.
            BadImagesError: Images can't be read or decoded: all of them are in its `bad`, and what
                would have been returned for the others is its `result`.
            TypeError: `data_loader` is not an iterable of batches.

        Example:
            ```python
            from thingsvision_client import vision
            from thingsvision_client.model_class import Model

            model = Model("alexnet", pretrained=True, device=None)
            batches = vision.load_dl("images", "results", backend="pt", batch_size=64)
            features, targets = model.extract_features(batches, "features.10", flatten_acts=True)
            print(features.shape, targets.shape)
            ```

        """
        flatten = require_flattening(flatten_acts)
        self._check_choices(data_loader, batch_size, device)
        scores = class_scores(self.modules()) if return_probabilities else None
        images = labelled_images(data_loader)
        asked = [module_name] if scores is None else [module_name, scores.module]
        error: BadImagesError | None = None
        try:
            features = self.extractor.extract_features(
                images.batches, module_names=list(dict.fromkeys(asked)), flatten_acts=flatten
            )
        except BadImagesError as failure:
            if failure.result is None:
                raise
            error, features = failure, failure.result
        targets = images.targets_without([] if error is None else error.bad)
        found: tuple[Array, ...] = (features[module_name], targets)
        if scores is not None:
            found = (*found, scores.probabilities(features[scores.module]))
        if error is not None:
            count = len(error.bad) + len(targets)
            raise BadImagesError.of(error.bad, count, _ADVICE, found) from None
        return found

    def get_transformations(
        self, resize_dim: int = 256, crop_dim: int = 224, apply_center_crop: bool = True
    ) -> ServerTransforms:
        """Return the preprocessing that the server applies, for `vision.load_dl(transforms=...)`.

        Args:
            resize_dim: Pixels of the shorter side after resizing.
            crop_dim: Pixels of the sides of the centre crop.
            apply_center_crop: Whether to crop.

        Returns:
            The model's own preprocessing, with changes where an argument is not the default; for
            networks of torchvision made with `pretrained=False`, the library's, as in `Extractor`.

        Example:
            ```python
            from thingsvision_client.model_class import Model

            model = Model("alexnet", pretrained=True, device=None)
            print(model.get_transformations(resize_dim=224, apply_center_crop=False))
            ```

        """
        return self.extractor.get_transformations(resize_dim, crop_dim, apply_center_crop)

    def _check_choices(self, data_loader: Any, batch_size: int | None, device: DeviceName) -> None:
        if isinstance(data_loader, DataLoader) and batch_size not in (None, data_loader.batch_size):
            warn_caller(
                f"batch_size={batch_size!r} is ignored: data_loader has {data_loader.batch_size}.",
            )
        if device is not None and str(device) != str(self.device):
            warn_caller(
                f"device={str(device)!r} is ignored: the model has {str(self.device)!r}.",
            )


def require_flattening(flatten_acts: bool | None) -> bool:
    """Return `flatten_acts`. Raises InvalidRequestError if it is None."""
    if flatten_acts is None:
        raise InvalidRequestError(
            "`flatten_acts` must be True or False, since it has no default: True gives images x "
            "units (for RDMs and regression), False keeps the activations' own shape, such as "
            "channels x height x width."
        )
    return bool(flatten_acts)
