"""The source `transformers`: any checkpoint folder gives what the library itself gives."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.utils import logging

from serving import open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, NotExtractableError
from thingsvision_client.errors import InvalidWeightsError as ClientInvalidWeightsError
from thingsvision_client.errors import PreconditionError as ClientPreconditionError
from thingsvision_client.errors import UnknownModelError as ClientUnknownModelError
from thingsvision_client.errors import WeightsMismatchError as ClientWeightsMismatchError
from thingsvision_client.errors import WeightsMissingError as ClientWeightsMissingError
from thingsvision_server.backends.structure import first_tensor
from thingsvision_server.backends.torch import TorchModel, state_sha256
from thingsvision_server.errors import UnknownModelError, UnknownWeightsError
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState

SIDE = 32
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {key: VIT[key] for key in VIT if key not in ("image_size", "patch_size")} | {
    "vocab_size": 8,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SQUARE = {"height": SIDE, "width": SIDE}
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": SQUARE}

logging.set_verbosity_error()
logging.disable_progress_bar()


def vit() -> Any:
    """Return a classifier: AutoModel leaves its head out, and has a pooler that it lacks."""
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))


def dinov2() -> Any:
    """Return a network that was trained with larger images than its processor makes."""
    config = {key: VIT[key] for key in VIT if key != "intermediate_size"} | {"image_size": 64}
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**config))


def clip() -> Any:
    config = transformers.CLIPConfig(vision_config=VIT, text_config=TEXT, projection_dim=16)
    return transformers.CLIPModel(config)


def swin() -> Any:
    sizes = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    config = transformers.SwinConfig(image_size=SIDE, patch_size=4, **sizes)
    return transformers.SwinModel(config)


def convnext() -> Any:
    config = transformers.ConvNextV2Config(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextV2Model(config)


def resnet() -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    return transformers.ResNetModel(transformers.ResNetConfig(layer_type="basic", **sizes))


CHECKPOINTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "tiny-vit": (vit, transformers.ViTImageProcessor(size=SQUARE)),
    "deit": (
        lambda: transformers.DeiTModel(transformers.DeiTConfig(**VIT)),
        transformers.DeiTImageProcessor(**CROPPED),
    ),
    "org/dino": (dinov2, transformers.BitImageProcessor(**CROPPED, resample=3)),
    "clip": (clip, transformers.CLIPImageProcessor(**CROPPED)),
    "siglip": (
        lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VIT)),
        transformers.SiglipImageProcessor(size=SQUARE),
    ),
    "swin": (swin, transformers.ViTImageProcessor(size=SQUARE)),
    "convnext": (convnext, transformers.ConvNextImageProcessor(size={"shortest_edge": 64})),
    "resnet": (resnet, transformers.ConvNextImageProcessor(size={"shortest_edge": 64})),
}


def save(name: str, folder: Path) -> None:
    network, processor = CHECKPOINTS[name]
    torch.manual_seed(0)
    network().save_pretrained(folder)
    processor.save_pretrained(folder)


def save_tokenizer(folder: Path) -> None:
    """Save one that knows five words."""
    words = ["<pad>", "<start>", "<end>", "a", "grey", "cat", "sleeps", "<unknown>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = [("<start>", 1), ("<end>", 2)]
    tokenizer.post_processor = TemplateProcessing("<start> $A <end>", special_tokens=special)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(folder)


@pytest.fixture(autouse=True)
def _no_caches_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the user of this machine has downloaded must not decide."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with all checkpoints."""
    root = tmp_path_factory.mktemp("weights")
    for name in CHECKPOINTS:
        save(name, root / "transformers" / name)
    save_tokenizer(root / "transformers" / "clip")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Any]:
    with serving(folder, drain_seconds=1.0) as running:
        yield running


def at(folder: Path, name: str) -> Path:
    return folder / "transformers" / name


def direct(path: Path) -> Any:
    """Return the network as the library itself loads it."""
    network = AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32)
    # PyTorch's own attention has another kernel for weights that need no gradient.
    return network.eval().requires_grad_(False)


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
        found = loaded._open_tower(IMAGE)(pixels).last_hidden_state
        plain = network.eval().embeddings
        tokens = plain.patch_embeddings(pixels) + plain.position_embeddings[:, 1:]
        first = plain.cls_token + plain.position_embeddings[:, :1]
        tokens = torch.cat([first.expand(2, -1, -1), tokens], 1)
        for block in [m for m in network.modules() if type(m).__name__ == "ViTMAELayer"][:2]:
            tokens = first_tensor(block(tokens))
        expected = network.layernorm(tokens)
    torch.testing.assert_close(found, expected)


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


def test_preprocessing_is_told_as_data(client: Client, photos: list[Path]) -> None:
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
    from thingsvision_client.preprocessing import PreprocessingOverrides

    changed = PreprocessingOverrides(mean=[0.1, 0.2, 0.3])
    result = client.extract("transformers/org/dino", photos[:1], "layernorm", preprocessing=changed)
    assert result.provenance.preprocessing.mean == pytest.approx((0.1, 0.2, 0.3))
    # Small images of ConvNeXt are resized by a rule of its own (crop_pct).
    with pytest.raises(InvalidRequestError, match="its own and can't be changed"):
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
    np.testing.assert_allclose(both.features[block], np.concatenate(parts, 1), rtol=1e-5, atol=1e-6)


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
    np.testing.assert_allclose(mean.features[block], whole.mean(1), rtol=1e-5, atol=1e-6)
    with pytest.raises(NotExtractableError, match="no class token; take avg_pool"):
        client.extract(model, photos[:2], block, token_extraction="cls_token")


def test_what_is_no_sequence_has_no_tokens(client: Client, photos: list[Path]) -> None:
    with pytest.raises(NotExtractableError, match="is none"):
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
    with pytest.raises(InvalidRequestError, match=r"has 22 tokens .* reads at most 12"):
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


# ---------------------------------------------------------------- weights that are not there


def test_modules_without_weights_are_barred(client: Client, photos: list[Path]) -> None:
    """The checkpoint is a classifier's: AutoModel's own pooler would hold random numbers."""
    listed = {module.name: module for module in client.modules("transformers/tiny-vit")}
    assert listed["layernorm"].extractable
    assert not listed["pooler"].extractable
    with pytest.raises(NotExtractableError, match=r"no weights for it .*pooler\.dense\.bias"):
        client.extract("transformers/tiny-vit", photos[:1], "pooler.activation")
    seeded = {module.name: module for module in client.modules("transformers/tiny-vit@random:0")}
    assert seeded["pooler"].extractable


def test_a_folder_without_weights_says_where_to_put_them(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    path = at(folder, "hollow")
    save("resnet", path)
    (path / "model.safetensors").unlink()
    with pytest.raises(ClientWeightsMissingError, match=r"Put model\.safetensors .*hollow"):
        client.extract("transformers/hollow", photos[:1], "encoder.stages.0")
    (entry,) = client.models("transformers", "hollow")
    assert [weights.state for weights in entry.pretrained] == ["missing"]
    assert len(client.modules("transformers/hollow")) > 15
    seeded = client.extract("transformers/hollow@random:1", photos[:1], "encoder.stages.0")
    assert len(seeded.features["encoder.stages.0"]) == 1
    shutil.rmtree(path)


def test_weights_of_another_shape_are_refused(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    path = at(folder, "bent")
    save("resnet", path)
    state = load_file(path / "model.safetensors")
    wrong = next(name for name in state if name.endswith("convolution.weight"))
    state[wrong] = torch.zeros(2, 2)
    save_file(state, path / "model.safetensors")
    with pytest.raises(ClientWeightsMismatchError, match=r"has the shape \[2, 2\] instead of"):
        client.extract("transformers/bent", photos[:1], "encoder.stages.0")
    shutil.rmtree(path)


# ---------------------------------------------------------------- where checkpoints lie


def test_a_folder_put_there_later_is_seen(client: Client, folder: Path) -> None:
    def listed() -> list[str]:
        return [model.name for model in client.models("transformers")]

    assert listed() == sorted(CHECKPOINTS)
    save("resnet", at(folder, "late"))
    assert listed() == sorted([*CHECKPOINTS, "late"])
    assert client.load("transformers/late").model_sha256
    shutil.rmtree(at(folder, "late"))
    assert listed() == sorted(CHECKPOINTS)


def in_hub_cache(cache: Path, name: str, checkpoint: str) -> Path:
    """Save a checkpoint as huggingface_hub caches it: a ref names a commit, its snapshot links."""
    repository, commit = cache / f"models--{name.replace('/', '--')}", "1" * 40
    save(checkpoint, repository / "plain")
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (repository / part).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in (repository / "plain").iterdir():
        file.rename(repository / "blobs" / file.name)
        (repository / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{file.name}")
    (repository / "plain").rmdir()
    return repository / "snapshots" / commit


def test_repositories_in_the_caches_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(users))
    ours = in_hub_cache(tmp_path / "huggingface" / "hub", "org/resnet", "resnet")
    theirs = in_hub_cache(users, "someone/swin", "swin")
    source = open_sources(tmp_path)["transformers"]
    assert source.names() == ["org/resnet", "someone/swin"]
    for name, path in [("org/resnet", ours), ("someone/swin", theirs)]:
        key = source.resolve(ModelKey("transformers", name, Pretrained()))
        assert source.load(key, "cpu").model_sha256 == state_sha256(direct(path))
    states = [entry.pretrained[0].state for entry in source.entries(source.names())]
    assert states == [WeightsState.PRESENT] * 2


@pytest.mark.parametrize("layout", ["shards", "bin", "bin shards"])
def test_every_layout_of_weights_is_read(tmp_path: Path, layout: str) -> None:
    path = at(tmp_path, "swin")
    save("swin", path)
    expected = state_sha256(direct(path))
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(state)
    if layout == "bin":
        torch.save(state, path / "pytorch_model.bin")
    else:
        stem, suffix = ("pytorch_model", "bin") if "bin" in layout else ("model", "safetensors")
        writer: Any = torch.save if "bin" in layout else save_file
        files = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        for file, half in zip(files, halves, strict=True):
            writer({name: state[name] for name in half}, path / file)
        index = {name: file for file, half in zip(files, halves, strict=True) for name in half}
        (path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": index}))
    source = open_sources(tmp_path)["transformers"]
    key = source.resolve(ModelKey("transformers", "swin", Pretrained()))
    assert source.load(key, "cpu").model_sha256 == expected


def test_a_list_does_not_import_the_library(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from thingsvision_server.backends.tensorflow import TensorFlowRuntime; "
        "from thingsvision_server.sources import Sources; "
        "from thingsvision_server.sources.context import SourceContext; "
        "from thingsvision_server.sources.weights import WeightsFolder; "
        f"weights = WeightsFolder(Path({str(folder)!r}), allow_download=False); "
        "sources = Sources(SourceContext(weights, TensorFlowRuntime(sys.executable))); "
        "entries = list(sources.entries('transformers')); "
        "print(len(entries), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(len(CHECKPOINTS)), "False", "False"]


# ---------------------------------------------------------------- uploads


def test_an_uploaded_state_dict_is_used(
    client: Client, folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    network = direct(at(folder, "resnet"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    path = tmp_path / "mine.safetensors"
    save_file(network.state_dict(), path)
    sha256 = client.upload_weights(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    model = f"transformers/resnet@sha256:{sha256}"
    assert client.load(model).model_sha256 == state_sha256(network)
    result = client.extract(model, photos[:1], "encoder.stages.1")
    assert np.isfinite(result.features["encoder.stages.1"]).all()


def test_an_uploaded_state_dict_that_does_not_fit_lists_what(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    state = direct(at(folder, "resnet")).state_dict()
    missing = next(name for name in state if name.endswith("convolution.weight"))
    state["strange.weight"] = state.pop(missing)
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    sha256 = client.upload_weights(path)
    with pytest.raises(ClientWeightsMismatchError) as caught:
        client.load(f"transformers/resnet@sha256:{sha256}")
    assert f"missing: {missing}; unexpected: strange.weight" in str(caught.value)


# ---------------------------------------------------------------- refusals


def changed(path: Path, file: str, **fields: Any) -> None:
    """Set fields of a JSON file of a checkpoint; None takes one out."""
    content = json.loads((path / file).read_text()) | fields
    kept = {name: value for name, value in content.items() if value is not None}
    (path / file).write_text(json.dumps(kept))


CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code": (
        lambda path: changed(path, CONFIG, auto_map={"AutoModel": "own.Network"}),
        r"brings Python code of its own \(auto_map\), and this server runs no code",
    ),
    "code-of-processor": (
        lambda path: changed(path, PROCESSOR, auto_map={"AutoImageProcessor": "own.Processor"}),
        "runs no code of a checkpoint",
    ),
    "no-processor": (
        lambda path: (path / PROCESSOR).unlink(),
        r"has no preprocessor_config\.json, which says how images become inputs; put one into",
    ),
    "no-type": (
        lambda path: changed(path, CONFIG, model_type=None),
        r"config\.json names no model_type",
    ),
    "quantized": (
        lambda path: changed(path, CONFIG, quantization_config={"quant_method": "gptq"}),
        "weights are quantized; put the checkpoint with float weights there",
    ),
    "sounds": (lambda path: changed(path, PROCESSOR, sampling_rate=16000), "sounds, not images"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_served_says_why(client: Client, folder: Path, name: str) -> None:
    spoil, sentence = UNUSABLE[name]
    path = at(folder, name)
    save("resnet", path)
    (path / "own.py").write_text("raise SystemExit('this code ran')")
    spoil(path)
    try:
        with pytest.raises(ClientPreconditionError, match=sentence):
            client.modules(f"transformers/{name}")
        assert name not in [model.name for model in client.models("transformers")]
    finally:
        shutil.rmtree(path)


UNKNOWN_TO_THE_LIBRARY: dict[str, tuple[Callable[[Path], Any], str]] = {
    "new-type": (lambda path: changed(path, CONFIG, model_type="nonesuch"), "nonesuch"),
    "no-number": (lambda path: changed(path, CONFIG, num_channels="three"), "num_channels"),
    "new-processor": (
        lambda path: changed(path, PROCESSOR, image_processor_type="NoneSuchProcessor"),
        "can't use the image processor of transformers/new-processor",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN_TO_THE_LIBRARY)
def test_what_the_library_does_not_know_says_so(client: Client, folder: Path, name: str) -> None:
    spoil, sentence = UNKNOWN_TO_THE_LIBRARY[name]
    path = at(folder, name)
    save("resnet", path)
    spoil(path)
    try:
        with pytest.raises(ClientPreconditionError, match=sentence) as caught:
            client.modules(f"transformers/{name}")
        assert f"transformers {transformers.__version__} can't use" in str(caught.value)
    finally:
        shutil.rmtree(path)


def test_a_network_of_texts_is_refused(client: Client, folder: Path) -> None:
    path = at(folder, "bert")
    sizes = {key: TEXT[key] for key in TEXT if not key.endswith("_id")}
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(path)
    CHECKPOINTS["tiny-vit"][1].save_pretrained(path)
    with pytest.raises(ClientPreconditionError, match="BertModel takes input_ids, not images"):
        client.modules("transformers/bert")
    shutil.rmtree(path)


class Evil:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("this code ran",)


def test_pickled_objects_are_refused(
    client: Client, folder: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    path = at(folder, "pickled")
    save("resnet", path)
    (path / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, path / "pytorch_model.bin")
    with pytest.raises(ClientInvalidWeightsError, match=r"pickled/pytorch_model\.bin is no state"):
        client.extract("transformers/pickled", photos[:1], "encoder.stages.0")
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ClientInvalidWeightsError, match="pickled objects"):
        client.extract("transformers/pickled", photos[:1], "encoder.stages.0")
    assert "this code ran" not in capfd.readouterr().out
    shutil.rmtree(path)


def test_shards_outside_the_folder_are_refused(client: Client, folder: Path) -> None:
    path = at(folder, "shards")
    save("resnet", path)
    (path / "model.safetensors").rename(folder / "outside.safetensors")
    index = {"weight_map": {"weight": "../../outside.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ClientInvalidWeightsError, match="names files outside its folder"):
        client.load("transformers/shards")
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "name", ["../transformers/swin", "/etc", "a/../swin", "a/b/c", "..", "./a"]
)
def test_paths_are_no_names(client: Client, name: str) -> None:
    from thingsvision_client.model import Model

    with pytest.raises(InvalidRequestError, match=r"a name is that of a folder in .*; no path"):
        client.modules(Model("transformers", name))


def test_an_unknown_name_says_where_to_put_it(client: Client, folder: Path) -> None:
    with pytest.raises(ClientUnknownModelError) as caught:
        client.modules("transformers/org/dinosaur")
    sentence = str(caught.value)
    assert "this server does not download" in sentence
    assert str(at(folder, "org/dinosaur")) in sentence
    assert str(folder / "huggingface" / "hub") in sentence
    assert "Did you mean 'org/dino'?" in sentence


def test_what_cannot_be_fetched_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = open_sources(tmp_path, allow_download=True)["transformers"]
    with pytest.raises(UnknownModelError, match=r"it could not be fetched \(.+\)\. Put the"):
        source.resolve(ModelKey("transformers", "org/nothing", Pretrained()))


def test_there_is_one_tag(folder: Path) -> None:
    source = open_sources(folder)["transformers"]
    with pytest.raises(
        UnknownWeightsError, match=r"no pretrained weights 'best'\. Valid: 'checkpo"
    ):
        source.resolve(ModelKey("transformers", "swin", Pretrained("best")))
