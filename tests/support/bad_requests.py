"""Requests that must be refused, an image that is right, and the limits of the server."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from PIL import Image as Pillow

from support.stock_calls import Refusal
from thingsvision_client import Client

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DATA_LOSS = grpc.StatusCode.DATA_LOSS

MODEL = "torchvision/squeezenet1_1@random:0"
MAX_IMAGE_BYTES = 200_000
MAX_UPLOAD_BYTES = 10_000_000


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
GOOD = encoded(Pillow.fromarray(NOISE))


def features(client: Client) -> Any:
    return client.extract(MODEL, [("good", GOOD)], "features.0", batch_size=1).features


@dataclass(frozen=True)
class Bad:
    """A request stream, and how it must be refused."""

    requests: Callable[[], list[Any]]
    code: grpc.StatusCode
    reason: str
    words: tuple[str, ...]


def check(refusal: Refusal, code: grpc.StatusCode, reason: str, words: tuple[str, ...]) -> None:
    assert (refusal.code, refusal.reason) == (code, reason), refusal.sentence
    for word in words:
        assert word in refusal.sentence
