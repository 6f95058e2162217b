"""The id of a model, `source/name@weights`, used in `x-model`, logs and metrics."""

from __future__ import annotations

import base64
import binascii

from .v1.thingsvision_pb2 import ModelSpec

METADATA_KEY = "x-model"
ANY_MODEL = "*"
REQUEST_ID_KEY = "x-request-id"
VERSION_KEY = "x-thingsvision-version"
SERVER_KEY = "x-thingsvision-server"
"""The key of a call for one server of a cluster; its value is the `server_mark`."""

SHARD_KEY = "x-shard"
"""The key of a call for a part of a long extraction; its value is the part's number, from 0."""


def server_mark(address: str) -> str:
    """Return an address as metadata: base64, as Envoy's header of stateful sessions has it.

    Of `unix:/PATH` it is the path.
    """
    return base64.b64encode(address.removeprefix("unix:").encode()).decode()


def marked_server(mark: str) -> str:
    """Return the address in metadata. Raises ValueError for what is not base64 of a text."""
    try:
        return base64.b64decode(mark, validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise ValueError(f"it must be the base64 of an address, got {mark!r}") from error


def model_id(spec: ModelSpec) -> str:
    """Return the id of the requested model; unset weights become `default`."""
    part = spec.weights_part and f":{spec.weights_part}"
    weights = {
        "pretrained_tag": spec.pretrained_tag,
        "weights_sha256": f"sha256:{spec.weights_sha256}{part}",
        "random_seed": f"random:{spec.random_seed}",
        None: "default",
    }[spec.WhichOneof("weights")]
    return f"{spec.source}/{spec.name}@{weights}"
