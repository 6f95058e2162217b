"""The source `transformers`: any checkpoint gives what the library itself gives."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image as Pillow
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from support.closeness import assert_close
from support.serving import open_sources, serving
from support.tiny_checkpoints import CHECKPOINTS, SIDE, VIT, at, direct, save
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, NotExtractableError
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.backends.torch.structure import first_tensor
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources.base import ModelKey, Pretrained, Random


def own_pixels(path: Path, pictures: list[Pillow.Image]) -> torch.Tensor:
    processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
    each = [processor(images=picture, return_tensors="pt").pixel_values for picture in pictures]
    return torch.cat(each)


def opened(photos: list[Path]) -> list[Pillow.Image]:
    return [Pillow.open(path).convert("RGB") for path in photos]


def hooked(network: Any, call: Callable[[], Any]) -> dict[str, Any]:
    """Return the last output of every module that ran and gave a tensor."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if isinstance(tensor, torch.Tensor):
                outputs[name] = tensor.clone().numpy()

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(keep(name))
    with torch.inference_mode():
        call()
    return outputs


# ---------------------------------------------------------------- what the library gives


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_module_gives_what_the_library_gives(
    client: Client, folder: Path, photos: list[Path], name: str
) -> None:
    model, path = f"transformers/{name}", at(folder, name)
    network, pixels = direct(path), own_pixels(path, opened(photos[:2]))
    call = getattr(network, "get_image_features", network)
    expected = hooked(network, lambda: call(pixel_values=pixels))
    listed = {module.name: module for module in client.modules(model)}
    assert set(listed) == {name for name, _ in network.named_modules()}
    wanted = [n for n, m in listed.items() if m.extractable and m.modality == IMAGE]
    assert len(wanted) > 15
    result = client.extract(model, photos[:2], wanted, batch_size=2)
    for module in wanted:
        np.testing.assert_array_equal(result.features[module], expected[module], module)
    for module in set(expected) - set(wanted):
        reason = listed[module].reason
        assert "no row per image" in reason or "no weights for it" in reason, (module, reason)


def test_blocks_and_attention_come_as_tokens(client: Client) -> None:
    shapes = {m.name: m.output_shape for m in client.modules("transformers/org/dino")}
    assert shapes["encoder.layer.1"] == shapes["encoder.layer.1.attention"] == (21, 32)


def test_a_root_that_gives_several_things_names_them(client: Client) -> None:
    root = next(m for m in client.modules("transformers/org/dino") if not m.name)
    assert "last_hidden_state, pooler_output" in root.reason


SEEDED = ["tiny-vit", "swin", "siglip", "resnet"]


def test_a_seed_gives_what_the_library_gives_from_it(folder: Path) -> None:
    """Whatever else loads meanwhile: the library patches PyTorch while it builds and fills."""
    sources = open_sources(folder)

    def digest(source: str, name: str, weights: Any) -> str:
        loaded = sources[source].load(ModelKey(source, name, weights), "cpu")
        assert isinstance(loaded, TorchModel)
        return loaded.model_sha256

    expected = []
    for name in SEEDED:
        config = AutoConfig.from_pretrained(at(folder, name))
        torch.manual_seed(3)
        expected.append(state_sha256(AutoModel.from_config(config)))
    torch.manual_seed(3)
    expected.append(state_sha256(timm.create_model("resnet10t")))
    asked = [("transformers", name) for name in SEEDED] + [("timm", "resnet10t")]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(2):
            filled = [pool.submit(digest, *one, Pretrained("checkpoint")) for one in asked[:-1]]
            seeded = [pool.submit(digest, *one, Random(3)) for one in asked]
            assert [job.result() for job in seeded] == expected
            assert all(job.result() for job in filled)


def test_a_masked_autoencoder_sees_every_patch_in_its_place(folder: Path, tmp_path: Path) -> None:
    """Called plainly, the library hides three quarters at random, other ones at every call."""
    path = at(tmp_path, "mae")
    network = transformers.ViTMAEModel(transformers.ViTMAEConfig(**VIT))
    network.save_pretrained(path)
    CHECKPOINTS["tiny-vit"][1].save_pretrained(path)
    source = open_sources(tmp_path)["transformers"]
    key = source.resolve(ModelKey("transformers", "mae", Pretrained()))
    shapes = {module.name: module.last.shape for module in source.structure(key).modules}
    assert shapes["layernorm"] == (17, 32)
    loaded = source.load(key, "cpu")
    assert isinstance(loaded, TorchModel)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        found = loaded.towers[IMAGE](pixels).last_hidden_state
        plain = network.eval().embeddings
        tokens = plain.patch_embeddings(pixels) + plain.position_embeddings[:, 1:]
        first = plain.cls_token + plain.position_embeddings[:, :1]
        tokens = torch.cat([first.expand(2, -1, -1), tokens], 1)
        for block in [m for m in network.modules() if type(m).__name__ == "ViTMAELayer"][:2]:
            tokens = first_tensor(block(tokens))
        expected = network.layernorm(tokens)
    torch.testing.assert_close(found, expected)
    # What runs is a copy of the network, called by a copy of its tower.
    (rows,) = loaded.run([pixels], taps(source.structure(key), ["layernorm"])).rows
    torch.testing.assert_close(torch.from_numpy(rows), expected)


# ---------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_preprocessing_is_the_processor_itself(folder: Path, photos: list[Path], name: str) -> None:
    source = open_sources(folder)["transformers"]
    transform = source.transforms(ModelKey("transformers", name, Pretrained("checkpoint")))[IMAGE]
    pictures = opened(photos[:3])
    expected = own_pixels(at(folder, name), pictures)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(transform.apply, pictures * 8))
    for place, pixels in enumerate(found):
        assert torch.equal(pixels, expected[place % len(pictures)])
    assert transform.spec.shape == tuple(expected.shape[1:])


def test_preprocessing_is_described_as_data(client: Client, photos: list[Path]) -> None:
    result = client.extract("transformers/org/dino", photos[:1], "layernorm")
    told = result.provenance.preprocessing
    assert (told.resize_pixels, told.crop_pixels) == ((40,), (32, 32))
    assert (told.interpolation, told.value_range, told.channel_order) == ("bicubic", "0..1", "RGB")
    assert told.mean == pytest.approx(transformers.BitImageProcessor().image_mean)
    assert "BitImageProcessor" in told.description
    assert '"rescale_factor"' in told.description
    listed = client.preprocessing("transformers/org/dino")
    assert listed == told


def test_data_that_say_it_all_can_be_changed(client: Client, photos: list[Path]) -> None:
    from thingsvision_client.values.preprocessing import PreprocessingOverrides

    changed = PreprocessingOverrides(mean=[0.1, 0.2, 0.3])
    result = client.extract("transformers/org/dino", photos[:1], "layernorm", preprocessing=changed)
    assert result.provenance.preprocessing.mean == pytest.approx((0.1, 0.2, 0.3))
    # Small images of ConvNeXt are resized by a rule of its own (crop_pct).
    with pytest.raises(InvalidRequestError, match="can't be overridden"):
        client.extract("transformers/convnext", photos[:1], "layernorm", preprocessing=changed)


# ---------------------------------------------------------------- tokens

BLOCKS = {
    "tiny-vit": ("layers.1", 1),
    "deit": ("layers.1", 2),
    "org/dino": ("encoder.layer.1", 5),
    "clip": ("vision_model.encoder.layers.1", 1),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_class_token_and_patches_are_told_apart(
    client: Client, photos: list[Path], name: str
) -> None:
    block, prefix = BLOCKS[name]
    model = f"transformers/{name}"
    listed = {module.name: module for module in client.modules(model)}
    assert listed[block].prefix_token_count == prefix
    whole = client.extract(model, photos[:2], block, batch_size=2).features[block]
    assert whole.shape[1] == prefix + 16
    parts = [whole[:, 0], whole[:, prefix:].mean(1)]
    both = client.extract(
        model, photos[:2], block, batch_size=2, token_extraction="cls_token+avg_pool"
    )
    assert_close(both.features[block], np.concatenate(parts, 1))


@pytest.mark.parametrize(
    ("name", "block", "count"),
    [
        ("swin", "encoder.layers.0.blocks.0", 64),
        ("swin", "encoder.layers.1.blocks.0", 16),
        ("siglip", "encoder.layers.1", 16),
    ],
)
def test_without_a_class_token_only_the_mean_can_be_taken(
    client: Client, photos: list[Path], name: str, block: str, count: int
) -> None:
    model = f"transformers/{name}"
    names = [module.name for module in client.modules(model)]
    block = next(n for n in names if n.endswith(block))
    whole = client.extract(model, photos[:2], block, batch_size=2).features[block]
    assert whole.shape[1] == count
    mean = client.extract(model, photos[:2], block, batch_size=2, token_extraction="avg_pool")
    assert_close(mean.features[block], whole.mean(1))
    with pytest.raises(NotExtractableError, match="no class token; use avg_pool"):
        client.extract(model, photos[:2], block, token_extraction="cls_token")


def test_outputs_that_are_not_sequences_have_no_tokens(client: Client, photos: list[Path]) -> None:
    with pytest.raises(NotExtractableError, match="needs a module that outputs a token sequence"):
        client.extract(
            "transformers/resnet", photos[:1], "encoder.stages.1", token_extraction="avg_pool"
        )


# ---------------------------------------------------------------- texts

SENTENCES = ["a grey cat sleeps", "a cat", "grey grey grey"]


def test_texts_give_what_the_library_gives(client: Client, folder: Path) -> None:
    path = at(folder, "clip")
    tokenizer = AutoTokenizer.from_pretrained(path)
    network = direct(path)
    modules = ["text_projection", "text_model.encoder.layers.1"]
    found = client.extract_texts("transformers/clip", SENTENCES, modules, batch_size=3)
    inputs = tokenizer(SENTENCES, padding="max_length", max_length=12, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    expected = hooked(network, lambda: network.get_text_features(**inputs))
    for module in modules:
        np.testing.assert_array_equal(found.features[module], expected[module])
    assert not np.allclose(*found.features["text_projection"][:2])


def test_a_text_that_is_too_long_is_not_cut(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match=r"has 22 tokens.* reads at most 12"):
        client.extract_texts("transformers/clip", [" ".join(["cat"] * 20)], "text_projection")


def test_without_a_tokenizer_texts_are_refused(folder: Path, tmp_path: Path) -> None:
    path = at(tmp_path, "clip")
    save("clip", path)
    with serving(tmp_path, drain_seconds=1.0) as running, Client(running.address) as client:
        with pytest.raises(
            Exception, match=r"there is no tokenizer in .*tokenizer\.json"
        ) as caught:
            client.extract_texts("transformers/clip", SENTENCES, "text_projection")
        assert "ModuleNeverRuns" in type(caught.value).__name__
