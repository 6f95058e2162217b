"""Limits of whole models are reported: they compute as they were written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.own_files import DECLARED, copied, onnx_file
from support.own_networks import network
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, InvalidWeightsError
from thingsvision_server.backends.offloading import OffloadableModel
from thingsvision_server.backends.tensorflow.model import TensorFlowRuntime
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
    model = ExportedModel(programs / "any.pt2", "any.pt2", TensorFlowRuntime(sys.executable)).load(
        "cpu"
    )
    assert isinstance(model, OffloadableModel)
    back = model.offload().restore()
    assert set(back.supported) == {"precision"}
