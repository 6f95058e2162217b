"""DreamSim: the published archives give the features of their backbones with the adapter added."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import nn
from torchvision import transforms

from support.closeness import DEEP, assert_close
from support.serving import open_sources
from thingsvision_client import Client
from thingsvision_client.errors import UnknownModelError, WeightsMissingError
from thingsvision_server.backends.torch.model import state_sha256
from thingsvision_server.errors import InvalidWeightsError
from thingsvision_server.errors import WeightsMissingError as ServerWeightsMissingError
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random
from thingsvision_server.sources.custom.dreamsim.files import merge_adapter

RANK, ALPHA = 4, 2.0
"""Of the adapters made here; read from the configuration of an adapter."""

OF_OPENAI = transforms.Normalize(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
OF_IMAGENET = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return open_sources(tmp_path)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """The folder that torch hub keeps files in."""
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def pictures(photos: list[Path]) -> torch.Tensor:
    """Return photographs as the package `dreamsim` prepares them."""
    prepare = transforms.Compose(
        [
            transforms.Resize((224, 224), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
        ]
    )
    return torch.stack([prepare(Pillow.open(path).convert("RGB")) for path in photos[:2]])


def as_published(visual: nn.Module) -> dict[str, torch.Tensor]:
    """Return CLIP's image tower in the words of DINO's vision transformer, as files have it."""
    state = visual.state_dict()
    published = {
        "cls_token": state["class_embedding"].view(1, 1, -1),
        "pos_embed": state["positional_embedding"][None],
        "patch_embed.proj.weight": state["conv1.weight"],
        "patch_embed.proj.bias": torch.zeros(768),
        "proj": state["proj"],
    }
    words = {
        "ln_pre.": "pos_drop.",
        "ln_post.": "norm.",
        "transformer.resblocks.": "blocks.",
        "ln_1.": "norm1.",
        "ln_2.": "norm2.",
        "attn.in_proj_": "attn.qkv.",
        "attn.out_proj.": "attn.proj.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    for name, tensor in state.items():
        renamed = name
        for theirs, ours in words.items():
            renamed = renamed.replace(theirs, ours)
        if renamed != name:
            published[renamed] = tensor
    assert len(published) == 12 * 12 + 4 + 5
    return {name: tensor.half().contiguous() for name, tensor in published.items()}


def adapter(index: int) -> dict[str, torch.Tensor]:
    """Return an adapter of every attention's query, key and value, filled at random."""
    prefix = f"base_model.model.extractor_list.{index}.model.blocks"
    shapes = {"A": (RANK, 768), "B": (2304, RANK)}
    return {
        f"{prefix}.{block}.attn.qkv.lora_{part}.weight": torch.randn(shape) * 0.05
        for block in range(12)
        for part, shape in shapes.items()
    }


def write_archive(path: Path, variant: str, files: dict[str, Any], tensors: Any) -> None:
    """Write an archive with an adapter as the published ones have it."""
    config = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.3, "target_modules": ["qkv"]}
    folder = f"{variant}_lora" if variant == "ensemble" else f"{variant}_single_lora"
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/adapter_config.json", json.dumps(config))
        for name, content in {**files, f"{folder}/adapter_model.bin": tensors}.items():
            file = io.BytesIO()
            torch.save(content, file)
            archive.writestr(name, file.getvalue())


def add_to(weights: Callable[[int], torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    """Add an adapter to the weights of the blocks of another network."""
    for block in range(12):
        a, b = (
            next(t for name, t in tensors.items() if f"blocks.{block}.attn.qkv.lora_{part}" in name)
            for part in "AB"
        )
        weights(block).data += ALPHA / RANK * (b @ a)


def features(sources: Sources, variant: str, images: torch.Tensor) -> Any:
    key = ModelKey("custom", f"DreamSim/{variant}", Pretrained("nights"))
    model: Any = sources["custom"].load(key, "cpu")
    with torch.inference_mode():
        return model.towers[IMAGE](images).numpy()


@pytest.mark.parametrize(
    ("variant", "architecture"),
    [("clip_vitb32", "ViT-B-32-quickgelu"), ("open_clip_vitb32", "ViT-B-32")],
)
def test_archives_of_clip_give_its_features_with_the_adapter_added(
    sources: Sources, checkpoints: Path, photos: list[Path], variant: str, architecture: str
) -> None:
    torch.manual_seed(1)
    visual: Any = open_clip.create_model(architecture).visual.half().float().eval()
    tensors = adapter(0)
    base = {f"{variant}_pretrain.pth.tar": {"state_dict": as_published(visual)}}
    archive = checkpoints / f"dreamsim_{variant}_checkpoint.zip"
    write_archive(archive, variant, base, tensors)
    images = pictures(photos)
    with torch.inference_mode():
        untuned = visual(OF_OPENAI(images)).numpy()
        add_to(lambda block: visual.transformer.resblocks[block].attn.in_proj_weight, tensors)
        expected = visual(OF_OPENAI(images)).numpy()
    found = features(sources, variant, images)
    assert found.shape == (2, 512)
    assert_close(found, expected, DEEP)
    assert np.abs(found - untuned).max() > 0.01 * np.abs(expected).max()


def test_the_archive_of_dino_needs_its_authors_file_too(
    sources: Sources, checkpoints: Path, photos: list[Path]
) -> None:
    torch.manual_seed(2)
    dino: Any = timm.create_model("vit_base_patch16_224", num_classes=0).half().float().eval()
    tensors = adapter(0)
    write_archive(checkpoints / "dreamsim_dino_vitb16_checkpoint.zip", "dino_vitb16", {}, tensors)
    images = pictures(photos)
    with pytest.raises(ServerWeightsMissingError, match=r"dino_vitbase16_pretrain\.pth"):
        features(sources, "dino_vitb16", images)
    state = {name: tensor.half() for name, tensor in dino.state_dict().items()}
    torch.save(state, checkpoints / "dino_vitbase16_pretrain.pth")
    add_to(lambda block: dino.blocks[block].attn.qkv.weight, tensors)
    kept: list[Any] = []
    dino.blocks[11].register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.inference_mode():
        dino(OF_IMAGENET(images))
    expected = kept[0][:, 0].numpy()
    found = features(sources, "dino_vitb16", images)
    assert_close(found, expected, DEEP)


def test_the_ensemble_has_three_backbones_side_by_side(sources: Sources) -> None:
    key = sources["custom"].resolve(ModelKey("custom", "DreamSim/ensemble", Pretrained()))
    assert key.weights == Pretrained("nights")
    modules = {one.name: one for one in sources["custom"].structure(key).modules}
    shapes = [modules[f"extractor_list.{index}"].last.shape for index in range(3)]
    assert shapes == [(768,), (512,), (512,)]
    assert modules["mlp"].last.shape == (1792,)
    for index in range(3):
        block = modules[f"extractor_list.{index}.model.blocks.3"]
        assert (block.last.shape, block.prefix_tokens) == ((197, 768), 1)


def test_weights_that_the_service_wrote_itself_fit(sources: Sources, tmp_path: Path) -> None:
    random: Any = sources["custom"].load(
        ModelKey("custom", "DreamSim/open_clip_vitb32", Random(3)), "cpu"
    )
    path = tmp_path / "custom" / "DreamSim" / "open_clip_vitb32.nights.safetensors"
    path.parent.mkdir(parents=True)
    network = random.towers[IMAGE]
    save_file(network.state_dict(), path)
    key = ModelKey("custom", "DreamSim/open_clip_vitb32", Pretrained("nights"))
    loaded: Any = sources["custom"].load(key, "cpu")
    assert loaded.model_sha256 == state_sha256(network)


@pytest.mark.parametrize(
    ("tensors", "config", "what"),
    [
        ({"classifier.weight": torch.ones(1)}, {}, "classifier.weight"),
        (adapter(0), {"use_rslora": True}, "use_rslora"),
        (adapter(1), {}, r"extractor_list\.1\.model\.blocks\.0\.attn\.qkv"),
        ({}, {}, "no pairs of lora_A and lora_B"),
    ],
)
def test_an_adapter_that_can_not_be_added_is_refused(
    tensors: dict[str, torch.Tensor], config: dict[str, Any], what: str
) -> None:
    state = {
        f"extractor_list.0.model.blocks.{block}.attn.qkv.weight": torch.zeros(2304, 768)
        for block in range(12)
    }
    with pytest.raises(InvalidWeightsError, match=what):
        merge_adapter(state, tensors, {"r": RANK, "lora_alpha": ALPHA} | config)


def test_features_over_the_wire_are_not_normalised_and_repeat(
    client: Client, photos: list[Path]
) -> None:
    model = "custom/DreamSim/clip_vitb32@random:0"
    result = client.extract(model, photos[:2], ["mlp", "extractor_list.0.model.blocks.3"])
    assert result.features["mlp"].shape == (2, 512)
    assert result.features["extractor_list.0.model.blocks.3"].shape == (2, 50, 768)
    preprocessing = result.provenance.preprocessing
    assert tuple(preprocessing.resize_pixels) == (224, 224)
    assert (preprocessing.interpolation, tuple(preprocessing.mean)) == ("bicubic", ())


def test_missing_weights_and_names_without_a_variant_are_refused(client: Client) -> None:
    with pytest.raises(WeightsMissingError, match=r"dreamsim_ensemble_checkpoint\.zip"):
        client.load("custom/DreamSim/ensemble")
    with pytest.raises(UnknownModelError, match="'DreamSim/dino_vitb16'"):
        client.modules("custom/DreamSim@random:0")
