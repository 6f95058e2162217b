"""The RDMs that an RSA requests from a server: images, model and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import Client, shared_client
from ..errors import InvalidRequestError
from ..images.queue import ImageQueue, queue_images
from ..origins import Request, describe, record_fingerprints
from ..utils.transforms import ServerTransforms
from ..values.options import ExtractOptions

if TYPE_CHECKING:
    from ..library.extractor import Extractor
    from ..rpc.rdms import RDMs
    from ..values.model import Model


@dataclass(frozen=True)
class Stimuli:
    """Images to send, the folder of their names, and what their dataset sets."""

    queue: ImageQueue
    root: Path | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    transforms: ServerTransforms = field(default_factory=ServerTransforms)


@dataclass(frozen=True)
class ModelRequest:
    """A model, the client of its server, and the options that its extractor sets."""

    model: Model | str
    client: Client
    choices: Mapping[str, Any] = field(default_factory=dict)


def stimuli_of(images: Any) -> Stimuli:
    """Return what a user passes as images: anything `Client.rdm` takes, a dataset, a DataLoader."""
    from ..library.batches import dataset_batches
    from ..utils.data import HDF5Dataset, ImageDataset

    if isinstance(images, (HDF5Dataset, ImageDataset)):
        return Stimuli(images.queue(), images.root, transforms=images.transforms)
    if isinstance(images, ImageQueue):
        return Stimuli(images)
    if (batches := dataset_batches(images)) is not None:
        choices = {"batch_size": batches.batch_size}
        return Stimuli(batches.images(), batches.root, choices, batches.transforms)
    is_folder = isinstance(images, (str, Path)) and Path(images).is_dir()
    return Stimuli(queue_images(images), Path(images) if is_folder else None)


def model_request(
    model: Model | str | Extractor, client: Client | None, server: str | None
) -> ModelRequest:
    """Return a model with its client, an extractor's own by default. Raises InvalidRequestError."""
    from ..library.extractor import Extractor

    if client is not None and server is not None:
        raise InvalidRequestError("Pass client or server, not both.")
    if not isinstance(model, Extractor):
        return ModelRequest(model, client or shared_client(server))
    own = client or (shared_client(server) if server is not None else model.client)
    return ModelRequest(model.model, own, model.options.without_dtype())


def request_rdms(
    stimuli: Stimuli,
    model: ModelRequest,
    modules: str | Sequence[str],
    *,
    metric: str,
    options: Mapping[str, Any],
) -> tuple[RDMs, dict[str, Any]]:
    """Return the RDM of every module, and their provenance in values that JSON can hold.

    `options` are further arguments of `Client.rdm`; they override the options of the images'
    dataset, which override those of the model's extractor.
    """
    own = {**stimuli.choices, "preprocessing": stimuli.transforms.for_model(model.model)}
    chosen = {name: value for name, value in own.items() if value is not None}
    asked = {"dtype": "float64", **model.choices, **chosen, **options}
    if stimuli.queue.tensor_shape is not None and "preprocessing" not in options:
        asked["preprocessing"] = None  # the user preprocessed these inputs
    queue, sent = record_fingerprints(stimuli.queue)
    rdms = model.client.rdm(model.model, queue, modules, metric=metric, **asked)
    kind = sent[0].kind if sent else "encoded"
    origin = origin_of_rdms(rdms, asked, stimuli.root, kind)
    left_out = {image.place for image in rdms.skipped}
    kept = [image.to_dict() for place, image in enumerate(sent) if place not in left_out]
    if rdms.skipped:
        origin["skipped"] = [
            {**image.to_dict(), **sent[image.place].to_dict()} for image in rdms.skipped
        ]
    return rdms, {**origin, "images": kept}


def origin_of_rdms(
    rdms: RDMs, options: Mapping[str, Any], root: Path | None = None, kind: str = "encoded"
) -> dict[str, Any]:
    """Return the provenance of RDMs, in values that JSON can hold; empty for uploaded features."""
    if rdms.provenance is None:
        return {}
    chosen = ExtractOptions(
        token_extraction=options.get("token_extraction"), preprocessing=options.get("preprocessing")
    )
    request = Request(rdms.batch_size, chosen, root)
    return {**describe(rdms.provenance, request, kind), "arithmetic": rdms.arithmetic}
