"""The functions of THINGSvision before 1.0, when a model had no methods of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.signatures import check_arguments
from ..library.devices import DeviceName
from ..utils.transforms import ServerTransforms
from .model import Model

if TYPE_CHECKING:
    from ..arrays import Array


@check_arguments
def load_model(
    model_name: str,
    pretrained: bool,
    device: DeviceName,
    model_path: str | Path | None = None,
    *,
    share: bool = False,
) -> tuple[Model, ServerTransforms]:
    """Return a model and its preprocessing.

    Args:
        model_name: As in `Model`, and so are the others.
        pretrained: Pretrained weights; False gives random ones, always the same.
        device: Device of the server that you expect, or None.
        model_path: File of your own weights, which is uploaded.
        share: Whether to let others use that file too.

    Returns:
        The model, and what its `get_transformations()` returns.

    Raises:
        UnknownModelError: No source has the model; near matches are named.

    Example:
        ```python
        from thingsvision_client import vision

        model, transforms = vision.load_model("alexnet", pretrained=True, device=None)
        batches = vision.load_dl("images", "results", batch_size=64, transforms=transforms)
        features, targets = vision.extract_features(
            model, batches, "features.10", batch_size=64, flatten_acts=True, device=None
        )
        ```

    """
    model = Model(model_name, pretrained, device, model_path, share=share)
    return model, model.get_transformations()


@check_arguments
def show_model(model: Model, model_name: str | None = None) -> str:
    """Do as `Model.show`.

    Args:
        model: The model.
        model_name: Has no effect.

    Returns:
        The name of the module that was typed.

    Raises:
        InvalidRequestError: There is no input, or no module has that name.

    Example:
        ```python
        import io
        import sys
        from thingsvision_client import vision

        sys.stdin = io.StringIO("features.10")  # without this line, you are asked
        model, transforms = vision.load_model("alexnet", pretrained=True, device=None)
        module_name = vision.show_model(model, "alexnet")
        ```

    """
    return model.show()


@check_arguments
def extract_features(
    model: Model,
    data_loader: Any,
    module_name: str,
    batch_size: int | None = None,
    flatten_acts: bool | None = None,
    device: DeviceName = None,
    clip: bool = False,
    return_probabilities: bool = False,
) -> tuple[Array, ...]:
    """Do as `Model.extract_features`.

    Args:
        model: The model.
        data_loader: As in `Model.extract_features`, and so are the others.
        module_name: Name of the module.
        batch_size: The data loader's, which is used anyway.
        flatten_acts: True gives images x units, False the activations' own shape.
        device: The model's, which is used anyway.
        clip: Has no effect.
        return_probabilities: Also return class probabilities.

    Returns:
        Features, targets and, if asked for, probabilities.

    Raises:
        UnknownModuleError: The model has no such module.
        InvalidRequestError: `flatten_acts` is missing, for example.

    Example:
        ```python
        from thingsvision_client import vision

        model, transforms = vision.load_model("alexnet", pretrained=True, device=None)
        batches = vision.load_dl("images", "results", batch_size=64, transforms=transforms)
        features, targets, probabilities = vision.extract_features(
            model, batches, "features.10", flatten_acts=True, return_probabilities=True
        )
        ```

    """
    return model.extract_features(
        data_loader,
        module_name,
        batch_size,
        flatten_acts=flatten_acts,
        device=device,
        clip=clip,
        return_probabilities=return_probabilities,
    )
