"""Channels-last passes by choice: PyTorch's own bits, named, never mixed with contiguous ones."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from support.closeness import assert_close
from support.saved_features import save_squeezenet
from support.serving import TestServer
from thingsvision_client import Client, errors, verify
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import Task, extract_to_file
from thingsvision_client.values.model import Model
from thingsvision_client.values.options import ExtractOptions
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceStub

MODEL = "torchvision/squeezenet1_0@random:0"
MODULE = "features.5"
FORMATS = ("contiguous", "channels_last")


def extract(client: Client, images: Any, memory_format: str, **options: Any) -> np.ndarray:
    chosen = {"batch_size": 2, **options}
    result = client.extract(MODEL, images, MODULE, memory_format=memory_format, **chosen)
    assert result.provenance.memory_format == memory_format
    assert result.to_dict()["memory_format"] == memory_format
    return result.features[MODULE]


def by_pytorch(batch: torch.Tensor) -> np.ndarray:
    """Return what plain PyTorch gives for a batch as it lies."""
    torch.manual_seed(0)
    network: nn.Module = models.squeezenet1_0(weights=None).eval()
    found: list[torch.Tensor] = []
    part = network.get_submodule(MODULE)
    part.register_forward_hook(lambda _module, _inputs, output: found.append(output.clone()))
    with torch.inference_mode():
        network(batch)
    return found[0].contiguous().numpy()


@pytest.fixture
def inputs(photos: list[Path]) -> torch.Tensor:
    """Two photographs as the network's inputs."""
    from PIL import Image

    transform = models.SqueezeNet1_0_Weights.DEFAULT.transforms()
    opened = [Image.open(photo).convert("RGB") for photo in photos[:2]]
    return torch.stack([transform(image) for image in opened])


def test_the_bits_are_those_of_pytorch_in_either_format(
    server: TestServer, inputs: torch.Tensor
) -> None:
    with Client(server.address) as client:
        found = {one: extract(client, inputs.numpy(), one) for one in FORMATS}
        usual = client.extract(MODEL, inputs.numpy(), MODULE, batch_size=2)
    laid_out = inputs.to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(found["contiguous"], by_pytorch(inputs))
    np.testing.assert_array_equal(found["channels_last"], by_pytorch(laid_out))
    assert_close(found["channels_last"], found["contiguous"])
    assert usual.provenance.memory_format == "contiguous"
    np.testing.assert_array_equal(usual.features[MODULE], found["contiguous"])


def test_requests_of_both_formats_at_once_do_not_mix(
    server: TestServer, photos: list[Path], inputs: torch.Tensor
) -> None:
    """Each alone, then many side by side: the same bits, also while others merge."""

    def ask(memory_format: str, **options: Any) -> np.ndarray:
        with Client(server.address) as client:
            return extract(client, photos, memory_format, **options)

    alone = {one: ask(one) for one in FORMATS}
    differ = alone["contiguous"][:2] != alone["channels_last"][:2]
    # On most processors the formats differ in their last bits, on all as PyTorch's own do.
    laid_out = inputs.to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(differ, by_pytorch(inputs) != by_pytorch(laid_out))
    with ThreadPoolExecutor(6) as pool:
        merging = [pool.submit(ask, one, batch_size=None) for one in FORMATS * 3]
        exact = [(one, pool.submit(ask, one)) for one in FORMATS * 6]
    for one, asked in exact:
        np.testing.assert_array_equal(asked.result(), alone[one])
    for asked in merging:
        assert_close(asked.result(), alone["contiguous"])


def test_deterministic_features_do_not_depend_on_neighbours(
    client: Client, photos: list[Path]
) -> None:
    ask = partial(
        extract, client, memory_format="channels_last", batch_size=None, deterministic=True
    )
    together = ask(photos)
    backwards = ask(photos[::-1])[::-1]
    np.testing.assert_array_equal(together, backwards)
    for photo, row in zip(photos, together, strict=True):
        np.testing.assert_array_equal(ask([photo])[0], row)


def test_streams_and_rdms_are_of_the_format(client: Client, photos: list[Path]) -> None:
    ask = {"batch_size": 2, "memory_format": "channels_last"}
    stream = client.stream(MODEL, photos, MODULE, **ask)
    assert stream.provenance.memory_format == "channels_last"
    rows = np.concatenate([rows[MODULE] for _, rows in stream])
    np.testing.assert_array_equal(rows, extract(client, photos, "channels_last"))
    rdms = client.rdm(MODEL, photos, MODULE, dtype="float64", **ask)
    assert rdms.provenance is not None
    assert rdms.provenance.memory_format == "channels_last"
    flat = rows.reshape(len(rows), -1)
    np.testing.assert_array_equal(
        rdms.rdms[MODULE], client.rdm_of(flat, dtype="float64").rdms["features"]
    )


@pytest.mark.parametrize(
    ("model", "module", "sentence"),
    [
        (MODEL, MODULE, "`memory_format` must be one of contiguous, channels_last, got 'nhwc'"),
        (
            "keras/MobileNet@random:0",
            "conv1",
            "`memory_format` of keras/MobileNet@random:0 on cpu must be one of: contiguous; got "
            "channels_last",
        ),
        (
            "custom/OpenCLIP/ViT-S-32-alt@random:0",
            "text",
            "of module 'text' must be contiguous, got channels_last: the module takes texts",
        ),
    ],
)
def test_models_without_the_memory_format_are_refused(
    client: Client, photos: list[Path], model: str, module: str, sentence: str
) -> None:
    chosen = "nhwc" if model == MODEL else "channels_last"
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        client.extract(model, photos[:1], module, memory_format=chosen)


def test_a_number_that_is_not_a_format_is_refused(server: TestServer) -> None:
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_0", random_seed=0)
    header = pb.ExtractHeader(model=spec, modules=[MODULE], memory_format=9)  # type: ignore[arg-type]
    sentence = "`memory_format` must be one of: contiguous, channels_last; got 9"
    with (
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError, match=sentence),
    ):
        list(FeatureServiceStub(channel).Extract(iter([pb.ExtractRequest(header=header)])))


def test_files_tell_it_and_are_verified_with_it(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    chosen = {"memory_format": "channels_last"}
    path = save_squeezenet(server, photos, tmp_path, module=MODULE, parameters=chosen)
    told = json.loads((tmp_path / "features.npy.json").read_text())
    assert told["memory_format"] == "channels_last"
    assert told["choices"] == {"memory_format": "channels_last"}
    found = verify(path, server=server.address)
    assert [one.verdict for one in found.modules] == ["equal"]
    assert found.notes == ()
    # Recomputed in the other format it is only close: the recorded format is the one in use.
    told["choices"] = {}
    (tmp_path / "features.npy.json").write_text(json.dumps(told))
    found = verify(path, server=server.address)
    assert [one.verdict for one in found.modules] == ["rounding"]
    assert found.notes == ("memory_format was 'channels_last' and is 'contiguous' now",)


def test_the_command_takes_it(server: TestServer, photos: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    (root / photos[0].name).symlink_to(photos[0])
    command = [
        str(Path(sys.executable).with_name("thingsvision-client")), "extract-features",
        "--model-name", "squeezenet1_0", "--source", "torchvision", "--no-pretrained",
        "--module-name", MODULE, "--image-root", str(root), "--out-path", str(tmp_path),
        "--batch-size", "2", "--server", server.address, "--model-parameters",
    ]  # fmt: skip
    subprocess.run([*command, '{"memory_format": "channels_last"}'], check=True)
    (told,) = tmp_path.rglob("features.*.json")
    assert json.loads(told.read_text())["memory_format"] == "channels_last"


def test_a_finished_file_of_another_format_is_replaced_with_a_notice(
    client: Client, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, names = photos[0].parent, [photo.name for photo in photos]
    model = Model("torchvision", "squeezenet1_0", "random:0")
    options = ExtractOptions(batch_size=2)
    task = Task(model, (MODULE,), partial(queue_files, root, names), options, root=root)
    path = extract_to_file(client, task, tmp_path, file_format="npz")
    (before,) = np.load(path).values()
    changed = replace(task, options=replace(options, memory_format="channels_last"))
    assert extract_to_file(client, changed, tmp_path, file_format="npz") == path
    assert "memory_format was 'contiguous' and is 'channels_last' now" in capsys.readouterr().err
    (after,) = np.load(path).values()
    assert (after != before).any()
