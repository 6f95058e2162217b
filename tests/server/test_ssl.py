"""Self-supervised networks: each published layout of files loads, and computes what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from support.closeness import assert_close
from support.serving import TestServer, open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.errors import WeightsMismatchError, WeightsMissingError
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState
from thingsvision_server.sources.catalogues.pytorch import PyTorchSource
from thingsvision_server.sources.ssl import source as ssl_source
from thingsvision_server.sources.ssl.conversions import dinov2, mae, vissl, xcit

State = dict[str, Any]

NAMES = [
    *(f"{task}-rn50" for task in ("simclr", "mocov2", "jigsaw", "rotnet", "swav", "pirl")),
    *("barlowtwins-rn50", "vicreg-rn50", "dino-rn50"),
    *(f"dino-vit-{size}-p{patch}" for size in ("small", "base") for patch in (8, 16)),
    *(f"dino-xcit-{size}-p{patch}" for size in ("small-12", "medium-24") for patch in (8, 16)),
    *(f"dinov2-vit-{size}-p14" for size in ("small", "base", "large", "giant")),
    *("mae-vit-base-p16", "mae-vit-large-p16", "mae-vit-huge-p14"),
]


# ---------------------------------------------------------------- published files, written anew


def resnet() -> nn.Module:
    network: nn.Module = models.resnet50(weights=None)
    network.fc = nn.Identity()
    return network


def transformer(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=0, **options)


def as_vissl(state: State) -> State:
    """The whole checkpoint of a training, with a head that is not part of the network."""
    trunk = {f"_feature_blocks.{key}": tensor for key, tensor in state.items()}
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": torch.zeros(3, 3)}}
    optimizer = {"optim": {"state": {0: {"momentum_buffer": torch.zeros(3)}}}}
    classy = {"base_model": {"model": model}, "optimizer": optimizer, "train": True}
    return {"iteration": 500_400, "phase_idx": 799, "loss": 5.3, "classy_state_dict": classy}


def as_thingsvision(state: State) -> State:
    return {f"_feature_blocks.{key}": tensor for key, tensor in state.items()}


def as_xcit(state: State) -> State:
    """XCiT's own code has one layer for queries, keys and values, and an `embeder`."""
    written: State = {}
    for key, tensor in state.items():
        if key.startswith("cls_attn_blocks.") and ".attn.q." in key:
            three = [state[key.replace(".q.", f".{one}.")] for one in "qkv"]
            written[key.replace(".q.", ".qkv.")] = torch.cat(three)
        elif not (key.startswith("cls_attn_blocks.") and (".attn.k." in key or ".attn.v." in key)):
            written[key.replace("pos_embed.", "pos_embeder.")] = tensor
    return written


def as_dinov2(state: State) -> State:
    """Positions of 518 pixels, a mask token, and gates under their own names."""
    names = {".mlp.fc1.": ".mlp.w12.", ".mlp.fc2.": ".mlp.w3."}
    gated = state["blocks.0.mlp.fc1.weight"].shape[0] != state["blocks.0.mlp.fc2.weight"].shape[1]
    written: State = {"mask_token": state["cls_token"][0]}
    for key, tensor in state.items():
        new = key
        for own, published in names.items() if gated else ():
            new = new.replace(own, published)
        written[new] = tensor
    width, device = state["pos_embed"].shape[-1], state["pos_embed"].device
    written["pos_embed"] = torch.randn(1, 1 + 37 * 37, width, device=device)
    return written


def as_mae(state: State) -> State:
    return {"model": state}


def as_it_is(state: State) -> State:
    return state


DINO = "torch/hub/checkpoints/dino_{0}_pretrain.pth".format
LAYOUTS: list[tuple[str, Callable[[], nn.Module], Callable[[State], State], str]] = [
    ("simclr-rn50", resnet, as_vissl, "torch/hub/checkpoints/simclr-rn50.torch"),
    ("pirl-rn50", resnet, as_thingsvision, "ssl/pirl-rn50.published.pth"),
    ("barlowtwins-rn50", resnet, as_it_is, "torch/hub/checkpoints/barlowtwins_resnet50.pth"),
    ("dino-rn50", resnet, as_it_is, DINO("resnet50")),
    ("dino-vit-small-p16", transformer("vit_small_patch16_224"), as_it_is, DINO("deitsmall16")),
    ("dino-xcit-small-12-p16", transformer("xcit_small_12_p16_224"), as_xcit,
     DINO("xcit_small_12_p16")),
    ("dinov2-vit-small-p14", transformer("vit_small_patch14_dinov2", img_size=224), as_dinov2,
     "torch/hub/checkpoints/dinov2_vits14_pretrain.pth"),
    ("mae-vit-base-p16", transformer("vit_base_patch16_224"), as_mae,
     "torch/hub/checkpoints/mae_pretrain_vit_base.pth"),
]  # fmt: skip


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    return open_sources(tmp_path)


def load(sources: Sources, name: str, weights: Any = None) -> TorchModel:
    source = sources["ssl"]
    model = source.load(source.resolve(ModelKey("ssl", name, weights or Pretrained())), "cpu")
    assert isinstance(model, TorchModel)
    return model


def write(path: Path, content: State) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose tensors are all random: none is what a new network has."""
    torch.manual_seed(7)
    network = build().eval()
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.01, 0.5 if "var" in key else 0.05)
    return network


@pytest.mark.parametrize(("name", "build", "as_published", "place"), LAYOUTS)
def test_published_files_load(
    sources: Sources,
    tmp_path: Path,
    name: str,
    build: Callable[[], nn.Module],
    as_published: Callable[[State], State],
    place: str,
) -> None:
    network = randomised(build)
    content = as_published(network.state_dict())
    write(tmp_path / place, content)
    (entry,) = sources["ssl"].entries([name])
    assert [one.state for one in entry.pretrained] == [WeightsState.PRESENT]
    found = load(sources, name)
    if "pos_embed" in content:  # the network interpolates the file's
        own: Any = found.network
        state = dict(network.state_dict()) | {"pos_embed": own.state_dict()["pos_embed"]}
        network.load_state_dict(state)
    assert found.model_sha256 == state_sha256(network)


@pytest.mark.parametrize(
    ("name", "build", "as_published"),
    [(name, build, as_published) for name, build, as_published, _ in LAYOUTS if "rn50" not in name],
)
def test_wrong_keys_are_listed(
    sources: Sources,
    tmp_path: Path,
    name: str,
    build: Callable[[], nn.Module],
    as_published: Callable[[State], State],
) -> None:
    with torch.device("meta"):
        state = {key: torch.empty(0) for key in build().state_dict()}
    state["blocks.3.mlp.fc7.weight"] = torch.zeros(1)
    del state["norm.weight"]
    path = write(tmp_path / "ssl" / f"{name}.published.pth", state)
    with pytest.raises(WeightsMismatchError) as caught:
        load(sources, name)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} does not fit ssl/{name}@published")
    assert '"norm.weight"' in sentence
    assert '"blocks.3.mlp.fc7.weight"' in sentence
    assert "size mismatch for blocks.0.norm1.weight" in sentence


def test_a_file_of_another_training_is_refused(sources: Sources, tmp_path: Path) -> None:
    state = models.resnet18(weights=None).state_dict()
    write(tmp_path / "ssl" / "simclr-rn50.published.pth", as_vissl(state))
    with pytest.raises(WeightsMismatchError, match=r'Missing key.*"layer1\.0\.conv3\.weight"'):
        load(sources, "simclr-rn50")


# ---------------------------------------------------------------- every model


def test_the_models_are_these(sources: Sources) -> None:
    assert sources["ssl"].names() == sorted(NAMES)
    entries = list(sources["ssl"].entries(sources["ssl"].names()))
    assert [[one.tag for one in entry.pretrained] for entry in entries] == [["published"]] * 24


def test_every_file_has_a_name_of_its_own() -> None:
    published = [row.weights for row in ssl_source._NETWORKS.values()]
    assert len({weights.file_name for weights in published}) == len(NAMES)
    assert len({weights.url for weights in published}) == len(NAMES)
    assert all(w.url.startswith("https://dl.fbaipublicfiles.com/") for w in published)


PUBLISHED_AS: dict[str, Callable[[State], State]] = {
    "dinov2": as_dinov2,
    "dino-xcit": as_xcit,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_takes_its_layout(name: str) -> None:
    """On `meta`, where the giant needs no memory: names and shapes fit, and numbers are right."""
    row = ssl_source._NETWORKS[name]
    as_published = next((w for k, w in PUBLISHED_AS.items() if name.startswith(k)), as_it_is)
    with torch.device("meta"):
        network = row.build()
        assert sum(p.numel() for p in network.parameters()) == row.parameter_count
        converted = row.convert(as_published(network.state_dict()))
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in converted.items()} == shapes


# ---------------------------------------------------------------- what is computed


def test_positions_are_interpolated_as_dinov2_does() -> None:
    """Cubic convolution (a = -0.75) of 37 x 37 at (i + 0.5) * 37 / 16.1 - 0.5, edges repeated."""
    positions = torch.randn(1, 1 + 37 * 37, 3, dtype=torch.float64)
    found = dinov2({"pos_embed": positions.float()})["pos_embed"]
    assert found.shape == (1, 257, 3)
    assert torch.equal(found[:, 0], positions[:, 0].float())

    def cubic(distance: float, a: float = -0.75) -> float:
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    rows = np.zeros((16, 37))
    for i in range(16):
        place = (i + 0.5) * 37 / 16.1 - 0.5
        for j in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            rows[i, min(max(j, 0), 36)] += cubic(place - j)
    grid = positions[0, 1:].numpy().reshape(37, 37, 3)
    expected = np.einsum("ij,kl,jlc->ikc", rows, rows, grid).reshape(256, 3)
    assert_close(found[0, 1:].numpy(), expected)


def test_positions_that_fit_stay() -> None:
    positions = torch.randn(1, 257, 4)
    assert dinov2({"pos_embed": positions})["pos_embed"] is positions
    odd = torch.randn(1, 250, 4)
    assert dinov2({"pos_embed": odd})["pos_embed"] is odd


def test_the_giant_is_gated_as_dinov2_does() -> None:
    """silu(x w1) * (x w2), then w3; w12 holds w1 and w2."""
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_giant_patch14_dinov2", img_size=28, embed_dim=48, depth=1, num_heads=2, num_classes=0
    ).eval()
    state = network.state_dict()
    hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
    w12, b12 = torch.randn(2 * hidden, 48), torch.randn(2 * hidden)
    published = {"blocks.0.mlp.w12.weight": w12, "blocks.0.mlp.w12.bias": b12}
    published["blocks.0.mlp.w3.weight"] = w3 = torch.randn(48, hidden)
    published["blocks.0.mlp.w3.bias"] = b3 = torch.randn(48)
    network.load_state_dict(state | dinov2(published))
    tokens = torch.randn(2, 5, 48)
    first, second = functional.linear(tokens, w12, b12).chunk(2, dim=-1)
    expected = functional.linear(functional.silu(first) * second, w3, b3)
    with torch.inference_mode():
        torch.testing.assert_close(network.blocks[0].mlp(tokens), expected)


def test_class_attention_is_that_of_xcit() -> None:
    """One joint layer; the class token asks, all tokens answer."""
    torch.manual_seed(0)
    network = timm.create_model("xcit_nano_12_p16_224", num_classes=0).eval()
    attention = network.cls_attn_blocks[0].attn
    width, heads = 128, 4
    assert attention.num_heads == heads
    joint, bias = torch.randn(3 * width, width), torch.randn(3 * width)
    name = "cls_attn_blocks.0.attn.qkv"
    converted = xcit({f"{name}.weight": joint, f"{name}.bias": bias})
    network.load_state_dict(network.state_dict() | converted)
    tokens = torch.randn(2, 6, width)
    with torch.inference_mode():
        q, k, v = functional.linear(tokens, joint, bias).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        scores = (q[:, :, :1] @ k.transpose(-1, -2)) * (width // heads) ** -0.5
        seen = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        expected = functional.linear(seen, attention.proj.weight, attention.proj.bias)
        found = attention(tokens)
    torch.testing.assert_close(found[:, :1], expected)


def test_what_is_not_part_of_the_network_is_left_out() -> None:
    tensor = torch.zeros(1)
    whole = {"norm.weight": tensor, "mask_token": tensor, "decoder_blocks.0.norm1.bias": tensor}
    assert list(mae(whole)) == ["norm.weight"]
    assert list(vissl({"_feature_blocks.conv1.weight": tensor})) == ["conv1.weight"]


def test_networks_end_where_their_publishers_do(sources: Sources) -> None:
    modules: dict[str, dict[str, Any]] = {}
    for name in ("swav-rn50", "dino-vit-small-p16", "dinov2-vit-small-p14"):
        structure = sources["ssl"].structure(ModelKey("ssl", name, Random(0)))
        modules[name] = {module.name: module.last.shape for module in structure.modules}
    resnet50 = modules["swav-rn50"]
    assert resnet50[""] == resnet50["fc"] == (2048,)
    assert resnet50["layer4"] == (2048, 7, 7)
    assert resnet50["avgpool"] == (2048, 1, 1)
    assert modules["dino-vit-small-p16"]["blocks.3"] == (197, 384)
    assert modules["dino-vit-small-p16"][""] == (384,)
    assert modules["dinov2-vit-small-p14"]["norm"] == (257, 384)


# ---------------------------------------------------------------- through a server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0) as running:
        yield running


@pytest.mark.parametrize("name", ["dino-vit-tiny", "dino-vit-tiny-p8", "dino-vit-tiny-p16"])
def test_dino_vit_tiny_is_refused_with_the_reason(client: Client, name: str) -> None:
    sentence = rf"ssl has no model '{name}'\. THINGSvision's README lists it, but .*no weights"
    with pytest.raises(ThingsvisionError, match=sentence):
        client.modules(f"ssl/{name}")
    with pytest.raises(ThingsvisionError, match="Did you mean 'dino-vit-small-p8'"):
        client.modules("ssl/dino-vit-smal-p8")


def test_missing_weights_name_the_file(client: Client, sources: Sources) -> None:
    with pytest.raises(WeightsMissingError, match=r"simclr-rn50\.published.*simclr-rn50\.torch"):
        load(sources, "simclr-rn50")
    with pytest.raises(ThingsvisionError, match=r"dinov2_vits14_pretrain\.pth"):
        client.load("ssl/dinov2-vit-small-p14")


def test_a_published_file_can_be_uploaded(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    network = resnet().eval()
    sha256 = client.upload_weights(write(tmp_path / "file", as_vissl(network.state_dict())))
    result = client.extract(f"ssl/swav-rn50@sha256:{sha256}", photos[:1], "avgpool", batch_size=1)
    assert result.features["avgpool"].shape == (1, 2048, 1, 1)
    with pytest.raises(ThingsvisionError, match=r"does not fit ssl/dino-xcit-small-12-p16"):
        client.load(f"ssl/dino-xcit-small-12-p16@sha256:{sha256}")


def test_the_source_is_one_of_pytorch(sources: Sources) -> None:
    source = sources["ssl"]
    assert isinstance(source, PyTorchSource)
    preprocessing = source.transforms(ModelKey("ssl", NAMES[0], Random(0)))["image"].preprocessing
    assert (preprocessing.resize_pixels, preprocessing.crop_pixels) == ((256,), (224, 224))
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.mean == (0.485, 0.456, 0.406)
