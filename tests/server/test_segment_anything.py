"""SegmentAnything and ALIGN: published files are read, and give what `transformers` gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from safetensors.torch import save_file

from support.serving import all_cores, open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.errors import WeightsMissingError as ClientWeightsMissingError
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.errors import WeightsMismatchError, WeightsMissingError
from thingsvision_server.inputs import IMAGE, TEXT
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState

SAM = "SegmentAnything/vit_b"
ALIGN = "Kakaobrain_Align"


pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Any]:
    with serving(folder, drain_seconds=1.0) as running:
        yield running


def snapshot(root: Path, repository: str) -> Path:
    """Return the folder of a repository's only revision in a cache that huggingface_hub made."""
    cached = root / "huggingface" / "hub" / f"models--{repository.replace('/', '--')}"
    path = cached / "snapshots" / ("1" * 40)
    path.mkdir(parents=True, exist_ok=True)
    (cached / "refs").mkdir(exist_ok=True)
    (cached / "refs" / "main").write_text("1" * 40)
    return path


def loaded(root: Path, name: str) -> dict[str, Any]:
    """Return the tensors of a model with its pretrained weights."""
    source = open_sources(root)["custom"]
    model = source.load(source.resolve(ModelKey("custom", name, Pretrained())), "cpu")
    assert isinstance(model, TorchModel)
    return dict(model.network.state_dict())


# ---------------------------------------------------------------- SegmentAnything

SHAPES_OF_A_BLOCK = {
    "norm1.weight": (768,),
    "norm1.bias": (768,),
    "attn.qkv.weight": (2304, 768),
    "attn.qkv.bias": (2304,),
    "attn.proj.weight": (768, 768),
    "attn.proj.bias": (768,),
    "norm2.weight": (768,),
    "norm2.bias": (768,),
    "mlp.lin1.weight": (3072, 768),
    "mlp.lin1.bias": (3072,),
    "mlp.lin2.weight": (768, 3072),
    "mlp.lin2.bias": (768,),
}
BESIDE_BLOCKS = {
    "pos_embed": ("pos_embed", (1, 64, 64, 768)),
    "patch_embed.proj.weight": ("patch_embed.projection.weight", (768, 3, 16, 16)),
    "patch_embed.proj.bias": ("patch_embed.projection.bias", (768,)),
    "neck.0.weight": ("neck.conv1.weight", (256, 768, 1, 1)),
    "neck.1.weight": ("neck.layer_norm1.weight", (256,)),
    "neck.1.bias": ("neck.layer_norm1.bias", (256,)),
    "neck.2.weight": ("neck.conv2.weight", (256, 256, 3, 3)),
    "neck.3.weight": ("neck.layer_norm2.weight", (256,)),
    "neck.3.bias": ("neck.layer_norm2.bias", (256,)),
}
"""Names in Meta's file, in the library, and the shape."""


def published_by_meta() -> tuple[dict[str, Any], dict[str, str]]:
    """Return tensors as in sam_vit_b_01ec64.pth, and the library's names of the encoder's."""
    shapes = {f"image_encoder.{ours}": shape for ours, (_, shape) in BESIDE_BLOCKS.items()}
    names = {f"image_encoder.{a}": f"vision_encoder.{b}" for a, (b, _) in BESIDE_BLOCKS.items()}
    for block in range(12):
        side = 64 if block in (2, 5, 8, 11) else 14
        positions = {f"attn.rel_pos_{axis}": (2 * side - 1, 64) for axis in "hw"}
        for part, shape in (SHAPES_OF_A_BLOCK | positions).items():
            key = f"image_encoder.blocks.{block}.{part}"
            shapes[key] = shape
            plain = part.replace("norm1.", "layer_norm1.").replace("norm2.", "layer_norm2.")
            names[key] = f"vision_encoder.layers.{block}.{plain}"
    shapes["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = (2, 128)
    shapes["mask_decoder.transformer.layers.0.norm1.weight"] = (256,)
    shapes["mask_decoder.iou_token.weight"] = (1, 256)
    torch.manual_seed(0)
    return {key: torch.rand(shape) for key, shape in shapes.items()}, names


def test_metas_own_file_is_read(tmp_path: Path) -> None:
    tensors, names = published_by_meta()
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(tensors, cache / "sam_vit_b_01ec64.pth")
    found = loaded(tmp_path, SAM)
    assert set(found) == set(names.values())
    for theirs, ours in names.items():
        assert torch.equal(found[ours], tensors[theirs]), ours


def test_the_hubs_file_is_read(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = transformers.SamModel(transformers.SamConfig())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    tensors = {name: torch.rand(shape) for name, shape in shapes.items()}
    save_file(tensors, snapshot(tmp_path, "facebook/sam-vit-base") / "model.safetensors")
    found = loaded(tmp_path, SAM)
    assert set(found) == {name for name in tensors if name.startswith("vision_encoder.")}
    for name, tensor in found.items():
        assert torch.equal(tensor, tensors[name]), name


def test_a_file_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "custom" / "SegmentAnything" / "vit_b.sa1b.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"image_encoder.neck.1.weight": torch.rand(256)}, path)
    with pytest.raises(
        WeightsMismatchError, match=r"does not fit custom/SegmentAnything/vit_b@sa1b"
    ):
        loaded(tmp_path, SAM)


def test_missing_weights_name_both_published_files(client: Client, photos: list[Path]) -> None:
    with pytest.raises(ClientWeightsMissingError) as caught:
        client.extract(f"custom/{SAM}", photos[:1], "vision_encoder.neck")
    assert "sam_vit_b_01ec64.pth" in str(caught.value)
    assert "facebook/sam-vit-base/model.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "blocks", "width"), [("vit_b", 12, 768), ("vit_l", 24, 1024), ("vit_h", 32, 1280)]
)
def test_each_size_has_its_published_structure(
    tmp_path: Path, size: str, blocks: int, width: int
) -> None:
    source, name = open_sources(tmp_path)["custom"], f"SegmentAnything/{size}"
    modules = {m.name: m for m in source.structure(ModelKey("custom", name, Random(0))).modules}
    outputs = {name: module.last.shape for name, module in modules.items()}
    assert outputs[f"vision_encoder.layers.{blocks - 1}"] == (64, 64, width)
    assert f"vision_encoder.layers.{blocks}" not in modules
    assert outputs["vision_encoder.neck"] == (256, 64, 64)
    (entry,) = source.entries([name])
    assert entry.parameter_count == modules[""].parameter_count
    assert (entry.task, entry.input_shape) == ("segmentation", (3, 1024, 1024))
    assert entry.pretrained[0].state is WeightsState.MISSING


def own_pixels(processor: Any, path: Path) -> torch.Tensor:
    picture = Pillow.open(path).convert("RGB")
    pixels: torch.Tensor = processor(images=picture, return_tensors="pt")["pixel_values"]
    return pixels


def test_images_are_padded_as_the_processor_pads_them(tmp_path: Path, photos: list[Path]) -> None:
    source = open_sources(tmp_path)["custom"]
    transform = source.transforms(ModelKey("custom", SAM, Random(0)))[IMAGE]
    processor = transformers.SamImageProcessor()
    for path in photos[:2]:
        found = transform.apply(Pillow.open(path).convert("RGB"))
        assert torch.equal(found, own_pixels(processor, path)[0])
        assert tuple(found.shape) == transform.spec.shape
    told = transform.preprocessing
    assert (told.mean, told.std) == (tuple(processor.image_mean), tuple(processor.image_std))
    assert (processor.size.longest_edge, processor.pad_size.height) == (1024, 1024)


def test_the_encoder_gives_what_the_library_gives(client: Client, photos: list[Path]) -> None:
    """The third block is the first with attention over the whole image."""
    blocks = [f"vision_encoder.layers.{number}" for number in range(3)]
    model = f"custom/{SAM}@random:4"
    found = client.extract(model, photos[:1], blocks, batch_size=1)
    torch.manual_seed(4)
    encoder = transformers.SamVisionModel(transformers.SamVisionConfig()).eval().vision_encoder
    pixels = own_pixels(transformers.SamImageProcessor(), photos[0])
    with torch.inference_mode():
        tokens = encoder.patch_embed(pixels) + encoder.pos_embed
        for block, layer in zip(blocks, encoder.layers, strict=False):
            tokens = layer(tokens)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens
            np.testing.assert_array_equal(found.features[block], tokens.numpy())
    windows = {module.name: module for module in client.modules(model)}
    assert "no row per image" in windows["vision_encoder.layers.0.attn"].reason


def test_the_size_of_its_images_cannot_be_changed(client: Client, photos: list[Path]) -> None:
    from thingsvision_client.values.preprocessing import PreprocessingOverrides

    smaller = PreprocessingOverrides(resize=512)
    with pytest.raises(InvalidRequestError, match="can't be overridden"):
        client.extract(
            f"custom/{SAM}@random:4", photos[:1], "vision_encoder.neck", preprocessing=smaller
        )


# ---------------------------------------------------------------- ALIGN


def align_config() -> Any:
    """Return the config of kakaobrain/align-base: a BERT, and a B7 with fewer features."""
    vision = {"image_size": 289, "hidden_dim": 640, "depthwise_padding": []}
    return transformers.AlignConfig(text_config={}, vision_config=vision, projection_dim=640)


def align_processor() -> Any:
    return transformers.EfficientNetImageProcessor(
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=2,
    )


def save_tokenizer(path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "grey", "cat", "sleeps"]
    (path / "vocab.txt").write_text("\n".join(words))
    kind = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "do_lower_case": True}
    (path / "tokenizer_config.json").write_text(json.dumps(kind))


def test_aligns_published_file_is_read(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = transformers.AlignModel(align_config())
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    tensors = {
        name: torch.rand(shape, dtype=torch.bfloat16)
        if dtype.is_floating_point
        else torch.tensor(7)
        for name, (shape, dtype) in shapes.items()
    }
    # Older versions of the library saved these.
    positions = {"text_model.embeddings.position_ids": torch.arange(512)[None]}
    path = snapshot(tmp_path, "kakaobrain/align-base") / "model.safetensors"
    save_file(tensors | positions, path)
    found = loaded(tmp_path, ALIGN)
    assert set(found) == set(tensors)
    for name, tensor in found.items():
        assert tensor.dtype == shapes[name][1]
        assert torch.equal(tensor, tensors[name].to(tensor.dtype)), name


def test_both_towers_of_align_give_what_the_library_gives(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    save_tokenizer(snapshot(folder, "kakaobrain/align-base"))
    model = f"custom/{ALIGN}@random:4"
    images = client.extract(model, photos[:1], "vision_model.pooler", batch_size=1)
    sentences = ["a grey cat sleeps", "a cat"]
    texts = client.extract_texts(model, sentences, "text_projection", batch_size=2)
    torch.manual_seed(4)
    network = transformers.AlignModel(align_config()).eval().requires_grad_(False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        snapshot(folder, "kakaobrain/align-base"), local_files_only=True
    )
    inputs = tokenizer(sentences, padding="max_length", max_length=64, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    assert inputs["input_ids"][0, :6].tolist() == [2, 5, 6, 7, 8, 3]
    kept: dict[str, Any] = {}
    for name in ("vision_model.pooler", "text_projection"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: kept.update({name: output.numpy()})
        )
    with torch.inference_mode(), all_cores():
        seen = network.get_image_features(pixel_values=own_pixels(align_processor(), photos[0]))
        network.get_text_features(**inputs)
    pooled = images.features["vision_model.pooler"]
    np.testing.assert_array_equal(pooled, kept["vision_model.pooler"])
    np.testing.assert_array_equal(pooled.reshape(1, 640), seen.pooler_output.numpy())
    np.testing.assert_array_equal(texts.features["text_projection"], kept["text_projection"])


def test_the_preprocessing_of_align_is_described_and_is_the_processors(
    tmp_path: Path, photos: list[Path]
) -> None:
    source = open_sources(tmp_path)["custom"]
    transform = source.transforms(ModelKey("custom", ALIGN, Random(0)))[IMAGE]
    found = transform.apply(Pillow.open(photos[1]).convert("RGB"))
    processor = align_processor()
    assert torch.equal(found, own_pixels(processor, photos[1])[0])
    assert -1 <= found.min() < -0.5 < 0.5 < found.max() <= 1
    told = transform.preprocessing
    assert (told.resize_pixels, told.crop_pixels) == ((346, 346), (289, 289))
    assert (processor.size.height, processor.crop_size.height) == (346, 289)
    assert (told.value_range, told.mean, told.std) == ("-1..1", (), ())


def test_without_its_tokenizer_align_says_what_is_missing(tmp_path: Path) -> None:
    source = open_sources(tmp_path)["custom"]
    texts = source.transforms(ModelKey("custom", ALIGN, Random(0)))[TEXT]
    assert texts.spec.shape == (2, 64)
    with pytest.raises(WeightsMissingError, match=r"kakaobrain/align-base/tokenizer_config\.json"):
        texts.apply("a cat")


def test_align_is_listed_with_its_size(client: Client) -> None:
    (entry,) = client.models("custom", ALIGN)
    network = next(module for module in client.modules(f"custom/{ALIGN}") if not module.name)
    assert entry.parameter_count == network.parameter_count == 172_117_841
    assert entry.input_shape == (3, 289, 289)
