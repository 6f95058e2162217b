"""The library's `get_extractor_from_model`: sends a network of the user's process to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from ..calls.arguments import choose
from ..calls.signatures import check_arguments
from ..client import Client, shared_client
from ..errors import InvalidRequestError, InvalidWeightsError
from ..values.input_shapes import shape_of_inputs
from ..values.model import Model
from ..values.options import ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.torchvision_steps import read_transforms
from .devices import DeviceName, check_device
from .exporting import OPEN_SIZE, InputShape, OtherInputsError, export_torch, save_keras
from .extractor import Extractor
from .module_view import ModuleView
from .own_programs import WAITING, OwnNetwork
from .request import OWN_NETWORK, ServedModel

_Changes: TypeAlias = "PreprocessingOverrides | Preprocessing | None"

_IMAGENET = PreprocessingOverrides(
    resize=256,
    crop=OPEN_SIZE,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""The library's preprocessing for a network without its own."""


@check_arguments
def get_extractor_from_model(
    model: Any,
    device: DeviceName,
    backend: str,
    preprocess: Any = None,
    forward_fn: Callable[..., Any] | None = None,
    flatten_fn: Callable[..., Any] | None = None,
    *,
    transforms: Any = None,
    input_shape: Sequence[int] | None = None,
    server: str | None = None,
    share: bool = False,
) -> Extractor:
    """Return an extractor of a network of yours: it is sent to the server, which keeps it.

    Modules keep their names. A PyTorch network that does not run with images of `preprocess` is
    sent when its first inputs show their shape; one that gets inputs of another shape later is sent
    again for these, as it is then.

    Args:
        model: A `torch.nn.Module`, sent as a `torch.export` program, or a Keras model, sent as
            .keras.
        device: Device of the server that you expect, or None. For any other there is a warning, and
            the server uses its own.
        backend: `pt` (PyTorch) or `tf` (Keras).
        preprocess: How images become inputs: torchvision's `weights.transforms()`, a Compose of its
            steps, a Preprocessing or a mapping with its fields. Without it images are preprocessed
            as for ImageNet (resized to 256, cropped to 224 pixels) with `pt`, and `tf` takes arrays
            only.
        forward_fn: Called as `forward_fn(self, batch)` in the place of `forward`, where
            `self.model` is the network; PyTorch only.
        flatten_fn: Called as `flatten_fn(self, activations)` or `flatten_fn(activations)` on this
            machine, if flat features are requested; returns a row per image.
        transforms: Another name of `preprocess`.
        input_shape: Shape of one image's input, such as (3, 224, 224), if `preprocess` does not say
            it.
        server: Address, host:port; by default that of `Client()`.
        share: Whether to let others use the network too, by the SHA-256 in `extractor.model`, as
            with `Client.share`; also what is sent later for inputs of another shape.

    Returns:
        The extractor.

    Raises:
        InvalidRequestError: What no server can run, with the reason and the way that works.

    Example:
        ```python
        from torch import nn
        from thingsvision_client import get_extractor_from_model, load_batches

        network = nn.Sequential(nn.Conv2d(3, 8, 11, stride=4), nn.ReLU())  # in the place of yours
        shape = (3, 224, 224)
        extractor = get_extractor_from_model(network, None, backend="pt", input_shape=shape)
        batches = load_batches("photos", "results", backend="pt", batch_size=32)
        print(extractor.extract_features(batches, module_name="1").shape)
        ```

    """
    choose("backend", backend, _KINDS)
    if isinstance(model, ModuleView):
        raise InvalidRequestError(
            "`model` must be a network that you made or loaded, got a view of a network on a "
            "server: use the extractor whose `model` it is."
        )
    preprocessing = _read_preprocessing(preprocess, transforms)
    client = shared_client(server)
    check_device(client, device)
    network = _Network(model, forward_fn, preprocessing, input_shape=input_shape, share=share)
    sent = _KINDS[backend](client, network)
    options = ExtractOptions(preprocessing=sent.changes)
    choices = replace(OWN_NETWORK, device=device, share=share)
    served = ServedModel(client, sent.model, backend, options, choices=choices)
    return Extractor(replace(served, flatten_fn=flatten_fn, network=sent.network))


def _read_preprocessing(preprocess: Any, transforms: Any) -> Preprocessing | None:
    """Return what one of two arguments says, as the network's own preprocessing."""
    if preprocess is not None and transforms is not None:
        raise InvalidRequestError("`preprocess` and `transforms` mean the same: give one of them.")
    found = (
        read_transforms(transforms, "transforms")
        if preprocess is None
        else read_transforms(preprocess)
    )
    return None if found is None else replace(found, owner="")


@dataclass(frozen=True)
class _Network:
    """A user's network, and how its inputs are made."""

    model: Any
    forward_fn: Callable[..., Any] | None
    preprocessing: Preprocessing | None
    input_shape: Sequence[int] | None
    share: bool = False

    @property
    def file_stem(self) -> str:
        return type(self.model).__name__

    def input_shapes(self) -> Iterator[InputShape]:
        """Yield the shapes of inputs to export for, until the server takes the program.

        Without a declared size any size is tried first, but a server can't run every network's
        arithmetic with sizes.
        """
        declared = self.preprocessing
        if self.input_shape is not None:
            yield tuple(self.input_shape)
        elif declared is not None:
            yield shape_of_inputs(declared) or (3, OPEN_SIZE, OPEN_SIZE)
        else:
            yield 3, None, None
            yield 3, OPEN_SIZE, OPEN_SIZE


@dataclass(frozen=True)
class _Sent:
    """The model of a network on the server, and the preprocessing that requests must carry."""

    model: Model
    changes: _Changes
    network: OwnNetwork | None = None


def _send_torch(client: Client, network: _Network) -> _Sent:
    changes: _Changes = _IMAGENET if network.preprocessing is None else network.preprocessing
    kept = OwnNetwork(network.model, network.forward_fn, network.share)
    shapes = list(network.input_shapes())
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{network.file_stem}.pt2"
        for shape in shapes:
            try:
                export_torch(network.model, path, input_shape=shape, forward_fn=network.forward_fn)
                sent, changes = _upload(client, path, network)
            except OtherInputsError as error:
                if network.input_shape is not None:
                    raise
                kept.refusal = str(error)  # the first inputs show which shape it takes
                return _Sent(WAITING, changes, kept)
            except InvalidWeightsError:
                if shape == shapes[-1]:
                    raise
            else:
                kept.for_images, kept.image_shape = sent, shape
                break
    if network.preprocessing is None:
        changes = _IMAGENET
    return _Sent(sent, changes, kept)


def _send_keras(client: Client, network: _Network) -> _Sent:
    if network.forward_fn is not None:
        raise InvalidRequestError(
            "`forward_fn` is for PyTorch. Make a Keras model whose call does the same: "
            "keras.Model(inputs, outputs) of the layers that you want."
        )
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{network.file_stem}.keras"
        save_keras(network.model, path)
        if not _takes_images_of(network.model, network.preprocessing):
            sent = client.upload_model(path, share=network.share)
            return _Sent(sent, network.preprocessing)
        return _Sent(*_upload(client, path, network))


def _takes_images_of(network: Any, preprocessing: Preprocessing | None) -> bool:
    """Whether a Keras model may take what a preprocessing gives: its inputs may be no images."""
    own = getattr(network, "input_shape", None)
    shape = None if preprocessing is None else shape_of_inputs(preprocessing)
    if not isinstance(own, tuple) or shape is None:  # several inputs, or of any size
        return True
    channels, height, width = shape
    wanted = {(height, width, channels), (channels, height, width)}
    return any(
        len(own) == 1 + len(sizes)
        and all(size in (None, one) for size, one in zip(own[1:], sizes, strict=True))
        for sizes in wanted
    )


def _upload(client: Client, path: Path, network: _Network) -> tuple[Model, Preprocessing | None]:
    """Upload a network with its preprocessing; return the preprocessing that requests must carry.

    They carry it if it has no size, which a declaration needs, or another one was declared before.
    """
    preprocessing, share = network.preprocessing, network.share
    if preprocessing is not None and shape_of_inputs(preprocessing) is None:
        return client.upload_model(path, share=share), preprocessing
    try:
        return client.upload_model(path, preprocessing, share=share), None
    except InvalidRequestError as error:
        if preprocessing is None or error.field != "preprocessing":
            raise
        return client.upload_model(path, share=share), preprocessing


_KINDS = {"pt": _send_torch, "tf": _send_keras}
"""Functions that send a network, by its backend."""
