"""Limits of whole models are reported: they compute as they were written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.own_files import DECLARED, copied, onnx_file
from support.own_networks import network
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, InvalidWeightsError
from thingsvision_server.backends.offloading import OffloadableModel
from thingsvision_server.sources.own.exported import ExportedModel


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_whole_models_keep_the_memory_format_that_they_were_written_for(
    client: Client, programs: Path, photos: list[Path], tmp_path: Path, kind: str
) -> None:
    onnx_path = tmp_path / "net.onnx"
    path = copied(programs, "net") if kind == "pt2" else onnx_file(network(6), onnx_path)
    model = client.upload_model(path, DECLARED)
    with pytest.raises(
        InvalidRequestError, match="on cpu must be one of: contiguous; got channels_last"
    ):
        client.extract(model, photos, "", memory_format="channels_last")


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_model_of_exactly_four_images_is_refused_with_the_way_out(
    client: Client, programs: Path, tmp_path: Path, kind: str
) -> None:
    path = programs / "four.pt2"
    if kind == "onnx":
        path = onnx_file(network(4), tmp_path / "four.onnx", batch=4)
    with pytest.raises(
        InvalidWeightsError, match=r"only batches of 4 images.*torch.export.Dim.\"batch\""
    ):
        client.upload_model(path, DECLARED)


def test_an_offloaded_and_restored_program_behaves_as_before(programs: Path) -> None:
    model = ExportedModel(programs / "any.pt2", "any.pt2").load("cpu")
    assert isinstance(model, OffloadableModel)
    back = model.offload().restore()
    assert set(back.supported) == {"precision"}


def test_what_guests_are_forked_from_starts_with_the_server(
    start_server: Callable[..., Any],
) -> None:
    with start_server(warm_guests=True) as server, Client(server.address) as client:
        until = time.monotonic() + 60
        while not client.residency().devices[0].template_bytes:
            assert time.monotonic() < until, "nothing was uploaded, and nothing started"
            time.sleep(0.05)
    with start_server() as server, Client(server.address) as client:
        assert client.residency().devices[0].template_bytes == 0
