"""A server with an image root, and raw calls to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from support.raw_calls import RawCall
from support.serving import TestServer, serving

MAX_IMAGE_BYTES = 2_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Iterator[TestServer]:
    root = tmp_path_factory.mktemp("root")
    shutil.copy(photos[0], root / f"good{photos[0].suffix}")
    (root / "huge.png").touch()
    os.truncate(root / "huge.png", MAX_IMAGE_BYTES + 1)
    os.mkfifo(root / "pipe.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    with serving(
        tmp_path_factory.mktemp("weights"),
        image_root=root,
        max_image_bytes=MAX_IMAGE_BYTES,
        decode_threads=2,
    ) as running:
        yield running


@pytest.fixture
def raw(server: TestServer) -> Iterator[RawCall]:
    with grpc.insecure_channel(server.address) as channel:

        def call(method: str, messages: list[bytes]) -> grpc.RpcError:
            sent = channel.stream_stream(f"/thingsvision.v1.{method}")(iter(messages), timeout=60)
            with pytest.raises(grpc.RpcError) as caught:
                list(sent)
            error: grpc.RpcError = caught.value
            return error

        yield call
