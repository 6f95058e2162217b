"""The preprocessing that the server applies to a dataset's images, and the backends of models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ..arrays import as_array
from ..calls.arguments import choose
from ..errors import ImageError, InvalidRequestError
from ..images.image import SentImage
from ..images.png import png_of
from ..values.model import Model, as_model
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.torchvision_steps import read_transforms

if TYPE_CHECKING:
    from ..client import Client
    from ..rpc.inputs import Inputs

BACKENDS = ("pt", "tf")

_LIBRARYS_CLASSES = {
    "pt": ("torchvision.transforms", "Compose"),
    "tf": ("keras", "Sequential"),
}
"""Module of Python and class of the library's transforms, by backend."""

_TOLERANCE = 1e-5
"""Share of the largest value by which inputs made from data may differ: their last digits, since
a library may multiply where the data divide."""

_PROBE_SIDES = ((331, 331), (250, 333))
"""Height and width of the images that are tried, pixels; a model without a crop takes only squares.
They are larger than common inputs, so that interpolations differ."""


@dataclass(frozen=True, repr=False, eq=False)
class ServerTransforms:
    """A preprocessing that the server applies: a model's own with changes to it, or a user's.

    Called with an image, it returns what the server would feed the model, to the last bit.

    Attributes:
        overrides: Changes of the model's own preprocessing, or one in its place.
        own: The model's own preprocessing; None if the server reports it only with the features.
        model: Whose it is; None means the model that the images are sent to.
        client: The client of the server that runs the model.
        backend: `pt` or `tf`: the framework of the model.
        given: The user's own steps that this was read from, or None.

    Example:
        ```python
        from PIL import Image
        from thingsvision_client import get_extractor

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        transforms = extractor.get_transformations()
        print(transforms(Image.new("RGB", (300, 200))).shape)
        ```

    """

    overrides: PreprocessingOverrides | Preprocessing | None = None
    own: Preprocessing | None = None
    model: Model | None = None
    client: Client | None = None
    backend: str = "pt"
    given: Any = None

    def __repr__(self) -> str:
        if isinstance(self.overrides, Preprocessing):
            return f"ServerTransforms({self.overrides})"
        whose = "the model's own" if self.model is None else f"{self.model}'s own"
        steps = " ".join(self.own.description.split()) if self.own else ""
        own = f"{whose}, {steps}" if steps else whose
        changes = f", but with {self.overrides}" if self.overrides else ""
        return f"ServerTransforms({own}{changes})"

    def __call__(self, image: Any) -> Any:
        """Return an image as the model's input: float32, channels x height x width for PyTorch.

        It is made by a call of the server. The image is a Pillow image, a uint8 array of height x
        width x 3, or the path of a file. The result is a tensor if the model is of PyTorch and
        torch is installed, else an array. Raises ThingsvisionError, and TypeError for anything
        that is not an image.
        """
        return self.inputs_of([image], self.backend)[0]

    def inputs_of(self, images: Sequence[Any], backend: str) -> Any:
        """Return the inputs of images, images x one input's shape; otherwise as for one image.

        A user's own steps are applied to the images of a dataset here.
        """
        if self.client is not None and self.model is not None:
            values = self.client.preprocess(self.model, list(images), self.overrides).inputs
        elif callable(self.given) and all(isinstance(image, SentImage) for image in images):
            values = _stack([as_array(self.given(_open(image))) for image in images])
        else:
            raise InvalidRequestError(
                "These transforms were not made by an extractor, so they can't be called: use "
                "extractor.get_transformations()."
            )
        return values if backend == "tf" else _as_tensor(values)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class that isinstance() compares with: the library's, if its framework is loaded."""
        module, name = _LIBRARYS_CLASSES[self.backend]
        found = getattr(sys.modules.get(module), name, None)
        return found if isinstance(found, type) else type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_of, tuple(getattr(self, one.name) for one in fields(ServerTransforms))

    def __eq__(self, other: object) -> bool:
        if type(other) is not ServerTransforms:
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash((self.model, self.backend))

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.overrides, self.own, self.model, self.backend

    @property
    def is_plain(self) -> bool:
        """Whether these are the own of whichever model the images are sent to."""
        return self.overrides is None and self.model is None

    def for_model(self, model: Model | str) -> PreprocessingOverrides | Preprocessing | None:
        """Return what a request of a model sends: changes of its own preprocessing, or another.

        The preprocessing of another model becomes data. Raises InvalidRequestError if data can't
        say it.
        """
        if self.model is None or self.client is None or _is_same(self.model, as_model(model)):
            return self.overrides
        if isinstance(self.overrides, Preprocessing):
            return replace(self.overrides, owner=self.overrides.owner or str(self.model))
        return self._data

    @cached_property
    def _data(self) -> Preprocessing:
        """The complete preprocessing as data, which was seen to give the same inputs."""
        found = self._probe(self.overrides)
        whose = str(self.model) + (f" with {self.overrides}" if self.overrides else "")
        data = replace(found.preprocessing, description="", owner=whose)
        try:
            again = self._probe(data)
        except InvalidRequestError as error:
            raise self._refusal(str(error)) from error
        if again.inputs.shape != found.inputs.shape:
            raise self._refusal(
                f"the server's steps give inputs of {again.inputs.shape}, not {found.inputs.shape}"
            )
        difference = float(abs(again.inputs - found.inputs).max())
        if not difference <= _TOLERANCE * float(abs(found.inputs).max()):
            raise self._refusal(
                f"the inputs of the server's steps differ by up to {difference:.3g}"
            )
        return data

    def _probe(self, changes: PreprocessingOverrides | Preprocessing | None) -> Inputs:
        """Return the inputs of images of noise."""
        import numpy as np

        assert self.client is not None  # noqa: S101 - for_model has checked both
        assert self.model is not None  # noqa: S101
        random = np.random.default_rng(0)
        images = [
            (f"{height} x {width}", png_of(random.integers(0, 256, (height, width, 3), np.uint8)))
            for height, width in _PROBE_SIDES
        ]
        try:
            return self.client.preprocess(self.model, images, changes)
        except ImageError:
            return self.client.preprocess(self.model, images[:1], changes)

    def _refusal(self, why: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The transforms of {self.model} can't be used for another model: {why}. "
            "Apply them yourself, and send the arrays: transforms(image) is an input."
        )


def _made_of(*values: Any) -> ServerTransforms:
    return ServerTransforms(*values)


def _is_same(first: Model, second: Model) -> bool:
    return first.to_spec() == second.to_spec()


def _open(image: SentImage) -> Any:
    """Return an image as Pillow opens it, in RGB."""
    from PIL import Image

    return Image.open(BytesIO(image.load().data)).convert("RGB")


def _stack(inputs: list[Any]) -> Any:
    import numpy as np

    return np.stack(inputs)


def _as_tensor(values: Any) -> Any:
    try:
        import torch
    except ImportError:
        return values
    return torch.from_numpy(values)


def as_transforms(transforms: Any) -> ServerTransforms:
    """Return what a user passes as transforms. Raises InvalidRequestError."""
    if transforms is None:
        return ServerTransforms()
    if isinstance(transforms, ServerTransforms):
        return transforms
    if isinstance(transforms, PreprocessingOverrides):
        return ServerTransforms(transforms)
    return ServerTransforms(read_transforms(transforms, "transforms"), given=transforms)


def check_backend(backend: Any) -> str:
    """Return the name of a backend. Raises InvalidRequestError."""
    return choose("backend", backend, BACKENDS)
