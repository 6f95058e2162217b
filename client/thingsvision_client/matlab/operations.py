"""What MATLAB can ask the helper for: a function for each operation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..calls.arguments import choose
from ..client import Client
from ..errors import BadImage, InvalidRequestError
from ..images.queue import ImageQueue
from ..images.texts import text_tower
from ..values.model import Model
from ..values.options import ComputeArguments, ExtractArguments, ExtractOptions
from ..values.preprocessing import Preprocessing
from ..values.version import client_version
from .exchange import Exchange
from .orders import find_order
from .request import by_python_name, is_same, needs_axes, read_images, read_options
from .saving import save_features
from .streaming import PieceSender, send_matrices

_MODEL_ENDINGS = (".pt2", ".onnx", ".keras")

ON_ERROR = "OnError"
RAISE, SKIP = "raise", "skip"

Asked = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One operation on its way: what was asked, its files, and what returns its client."""

    find_client: Callable[[], Client]
    asked: Asked
    exchange: Exchange

    @property
    def client(self) -> Client:
        """The client of the server that was named. Raises NoServerError if none was."""
        return self.find_client()

    def images(self) -> ImageQueue:
        """Return the images that were sent."""
        return read_images(self.asked["images"], self.exchange.pixels)

    def modules(self) -> list[str]:
        """Return the modules asked for; those of texts may be left out."""
        modules = [str(name) for name in self.asked.get("modules") or []]
        if not modules and self.asked["images"]["kind"] == "texts":
            return [text_tower(self.client.modules(self.asked["model"]))]
        return modules

    @property
    def on_error(self) -> str:
        """What happens to images that can't be used: `raise` or `skip`."""
        found = [value for name, value in self._options.items() if is_same(name, ON_ERROR)]
        return choose("OnError", found[0], (RAISE, SKIP)) if found else RAISE

    @property
    def _options(self) -> Asked:
        return self.asked.get("options") or {}

    @property
    def _option_names(self) -> tuple[str, ...]:
        """Names of the call's options; those that RDMs do without say why when they are used."""
        if "metric" in self.asked:
            return (*ComputeArguments.__annotations__, "metric", "form", "names", "on_error")
        return (*ExtractArguments.__annotations__, "output_as", "flatten", "names", "on_error")

    def options(self, modules: list[str]) -> ExtractOptions:
        """Return the options of the forward pass."""
        given = {name: one for name, one in self._options.items() if not is_same(name, ON_ERROR)}
        if not needs_axes(given):
            return read_options(given, None, self._option_names)
        listed = self.client.modules(self.asked["model"])
        bare = {name.partition("@")[0] for name in modules}
        chosen = [one for one in listed if one.name in bare]
        return read_options(given, chosen, self._option_names)


def hello(_: Operation) -> Any:
    """Return the versions of this side."""
    return {"python": sys.version.split()[0], "client": client_version(), "path": sys.executable}


def models(operation: Operation) -> Any:
    """List models."""
    asked = operation.asked
    return operation.client.models(asked.get("source") or "", asked.get("name_glob") or "")


def modules(operation: Operation) -> Any:
    """List modules."""
    return operation.client.modules(operation.asked["model"])


def activations(operation: Operation) -> Any:
    """Send activations as they arrive, each in its order; return names and provenance."""
    queue, names = operation.images(), operation.modules()
    options, asked = operation.options(names), operation.asked
    stream = operation.client.stream(
        asked["model"], queue, names, on_error=operation.on_error, **vars(options)
    )
    stream.on_wait = lambda stage: operation.exchange.report(stage, 0, None)
    with closing(stream):
        orders = {
            name: find_order(
                asked["output_as"], name, shape, stream.axes[name], flatten=bool(asked["flatten"])
            )
            for name, shape in stream.row_shapes.items()
        }
        sender = PieceSender(operation.exchange, orders, stream.dtypes)
        sender.announce(queue.count or 0)
        images: list[str] = []
        for some, rows in stream:
            sender.add(rows)
            images += some
            operation.exchange.report("extracting", len(images), queue.count)
        sender.finish()
        return {
            "images": images,
            "skipped": _bad(stream.skipped),
            "batch_size": stream.batch_size,
            "token_extraction": options.token_extraction or "",
            "axes": [" ".join(axis or "unknown" for axis in stream.axes[one]) for one in orders],
            "provenance": _as_text(stream.provenance.to_dict()),
        }


def rdm(operation: Operation) -> Any:
    """Send RDMs, square or as `pdist` has them; return names and provenance."""
    queue, names = operation.images(), operation.modules()
    asked, options = operation.asked, operation.options(names)
    form = choose("Form", asked["form"], ("square", "vector"))
    found = operation.client.rdm(
        asked["model"],
        queue,
        names,
        metric=asked["metric"],
        dtype="float64",
        progress=operation.exchange.report,
        on_error=operation.on_error,
        **options.without_dtype(),
    )
    if form == "vector":
        upper = np.triu_indices(len(found.images), k=1)
        arrays = {name: matrix[upper][:, np.newaxis] for name, matrix in found.rdms.items()}
        send_matrices(operation.exchange, arrays, (1,))
    else:
        send_matrices(operation.exchange, found.rdms, (len(found.images),))
    known = {} if found.provenance is None else found.provenance.to_dict()
    return {
        "images": found.images,
        "skipped": _bad(found.skipped),
        "metric": found.metric,
        "arithmetic": [found.arithmetic.get(name, "") for name in found.rdms],
        "undefined": ["\n".join(found.undefined.get(name, [])) for name in found.rdms],
        "provenance": _as_text(known),
    }


def load(operation: Operation) -> Any:
    """Load a model."""

    def on_stage(stage: str, seconds: float) -> None:
        operation.exchange.report(stage, round(seconds), None)

    return operation.client.load(operation.asked["model"], on_stage)


def unload(operation: Operation) -> Any:
    """Unload a model."""
    return {"freed_bytes": operation.client.unload(operation.asked["model"])}


def pin(operation: Operation) -> Any:
    """Pin or unpin a model."""
    return operation.client.pin(operation.asked["model"], bool(operation.asked["pinned"]))


def residency(operation: Operation) -> Any:
    """Return what is in the server's memory."""
    return operation.client.residency()


def upload(operation: Operation) -> Any:
    """Upload weights, or a whole model by the ending of its file."""
    asked = operation.asked
    path = Path(asked.get("folder") or ".") / asked["path"]
    share = bool(asked.get("share"))
    if path.suffix.lower() in _MODEL_ENDINGS:
        declared = asked.get("preprocessing") or None
        if declared is not None:
            valid = [one.name for one in fields(Preprocessing)]
            declared = by_python_name(declared, valid, "Preprocessing")
        model = operation.client.upload_model(path, declared, share=share)
        return {"sha256": model.name, "model": str(model)}
    if asked.get("preprocessing"):
        raise InvalidRequestError(
            "`Preprocessing` can be declared for whole models only "
            f"({', '.join(_MODEL_ENDINGS)}), got {path.name!r}."
        )
    sha256 = operation.client.upload_weights(path, share=share)
    return {"sha256": sha256, "model": ""}


def share(operation: Operation) -> Any:
    """Share what the user left on the server, or stop sharing it."""
    client, asked = operation.client, operation.asked
    return (client.share if asked["shared"] else client.unshare)(asked["what"])


def save(operation: Operation) -> Any:
    """Write features to a .mat file of version 7.3, or as chunks to a folder."""
    names, asked = operation.modules(), operation.asked
    return save_features(
        operation.client,
        asked,
        modules=tuple(names),
        options=operation.options(names),
        exchange=operation.exchange,
        on_error=operation.on_error,
    )


OPERATIONS: Mapping[str, Callable[[Operation], Any]] = {
    "hello": hello,
    "models": models,
    "modules": modules,
    "activations": activations,
    "rdm": rdm,
    "load": load,
    "unload": unload,
    "pin": pin,
    "residency": residency,
    "upload": upload,
    "share": share,
    "save": save,
}
"""The operations by the names that MATLAB sends."""


def to_json(value: Any) -> Any:
    """Return records as JSON values: a model is `source/name@weights`, None an empty list."""
    if isinstance(value, Model):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    return [] if value is None else value


def _bad(skipped: Sequence[BadImage]) -> list[dict[str, Any]]:
    """Return images without a row, with their places from 1."""
    return [replace(one, place=1 + one.place).to_dict() for one in skipped]


def _as_text(values: Mapping[str, Any]) -> str:
    """Return JSON text, which MATLAB shows and stores as it is."""
    return json.dumps(values, ensure_ascii=False)
