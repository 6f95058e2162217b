"""The id of a model, `source/name@weights`, used in `x-model`, logs and metrics."""

from __future__ import annotations

from .v1.thingsvision_pb2 import ModelSpec

METADATA_KEY = "x-model"
ANY_MODEL = "*"
REQUEST_ID_KEY = "x-request-id"
VERSION_KEY = "x-thingsvision-version"


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
