"""Weights of CLIP and OpenCLIP: published, uploaded, and in the hub's layout."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from support.clip_networks import direct_network
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.errors import (
    InvalidRequestError as ServerInvalidRequestError,
)
from thingsvision_server.errors import (
    InvalidWeightsError,
    UnknownWeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from thingsvision_server.inputs import TEXT
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, Uploaded

pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


# ---------------------------------------------------------------- weights

OPENAI = ModelKey("custom", "clip/ViT-B-32", Pretrained("openai"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the keys, shapes and types of the published one, filled at random."""
    network = direct_network("ViT-B-32-quickgelu")
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    assert {"text_projection", "positional_embedding", "visual.proj"} <= set(state)
    path = tmp_path_factory.mktemp("published") / "open_clip_model.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def published_sha256(published: Path) -> str:
    """The digest of the network that open_clip itself loads from that file."""
    network = open_clip.create_model(
        "ViT-B-32", str(published), force_quick_gelu=True, force_custom_text=True
    )
    return state_sha256(network)


def loaded_sha256(sources: Sources, key: ModelKey) -> str:
    model = sources["custom"].load(key, "cpu")
    assert isinstance(model, TorchModel)
    return model.model_sha256


def test_published_weights_are_found_by_hand_and_in_the_hubs_layout(
    sources: Sources, tmp_path: Path, published: Path, published_sha256: str
) -> None:
    by_hand = tmp_path / "custom" / "clip" / "ViT-B-32.openai.safetensors"
    by_hand.parent.mkdir(parents=True)
    by_hand.symlink_to(published)
    assert loaded_sha256(sources, OPENAI) == published_sha256
    by_hand.unlink()
    repository = tmp_path / "huggingface/hub/models--timm--vit_base_patch32_clip_224.openai"
    cached(repository, {"open_clip_model.safetensors": published})
    assert loaded_sha256(sources, OPENAI) == published_sha256


def test_uploads_of_open_clips_other_class_fit(
    sources: Sources, tmp_path: Path, published: Path, published_sha256: str
) -> None:
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / sha256).symlink_to(published)
    key = ModelKey("custom", "clip/ViT-B-32", Uploaded(sha256))
    assert loaded_sha256(sources, key) == published_sha256


def test_an_upload_that_does_not_fit_lists_its_keys(sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "uploads" / "partial"
    file.parent.mkdir()
    save_file({"visual.proj": torch.ones(2, 2), "other": torch.ones(1)}, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    file.rename(file.with_name(sha256))
    with pytest.raises(WeightsMismatchError) as caught:
        sources["custom"].load(ModelKey("custom", "clip/ViT-B-32", Uploaded(sha256)), "cpu")
    for part in (
        "missing keys: logit_scale",
        "unexpected keys: other",
        "visual.proj [2, 2] instead of [768, 512]",
    ):
        assert part in str(caught.value)


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file:UserWarning")
def test_openais_own_archives_are_code_and_refused(sources: Sources, tmp_path: Path) -> None:
    path = tmp_path / "custom" / "clip" / "ViT-B-32.openai.pt"
    path.parent.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates what OpenAI used
        torch.jit.script(nn.Linear(2, 2)).save(path)
    with pytest.raises(InvalidWeightsError, match=r"ViT-B-32\.openai\.pt is a TorchScript archive"):
        sources["custom"].load(OPENAI, "cpu")


def test_missing_weights_and_unknown_tags_are_named(sources: Sources) -> None:
    with pytest.raises(WeightsMissingError) as caught:
        sources["custom"].load(OPENAI, "cpu")
    assert "custom/clip/ViT-B-32.openai.safetensors" in str(caught.value)
    hub_file = "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
    assert hub_file in str(caught.value)
    with pytest.raises(UnknownWeightsError, match="openai"):
        sources["custom"].resolve(ModelKey("custom", "clip/ViT-B-32", Pretrained("laion2b")))
    default = sources["custom"].resolve(ModelKey("custom", "OpenCLIP/ViT-B-16", Pretrained()))
    assert default.weights == Pretrained(open_clip.list_pretrained_tags_by_model("ViT-B-16")[0])


# ---------------------------------------------------------------- what lies on the hub


def cached(repository: Path, files: dict[str, Path]) -> None:
    """Lay files out as huggingface_hub does: a ref names a commit, a snapshot links them."""
    commit = "1" * 40
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for name, path in files.items():
        (snapshot / name).symlink_to(path)


def test_a_tokenizer_of_the_hub_is_needed_for_texts_alone(sources: Sources, tmp_path: Path) -> None:
    key = ModelKey("custom", "OpenCLIP/ViT-L-14-CLIPA", Random(0))
    modules = {one.name: one for one in sources["custom"].structure(key).modules}
    assert modules["visual"].last.shape == modules["text"].last.shape == (768,)
    tokenize = sources["custom"].transforms(key)[TEXT]
    with pytest.raises(WeightsMissingError) as caught:
        tokenize.apply("a cat")
    assert "bert-base-uncased/tokenizer.json" in str(caught.value)
    assert str(tmp_path / "huggingface" / "hub") in str(caught.value)


def test_a_tokenizer_in_the_hubs_cache_is_found(sources: Sources, tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog"]
    folder = tmp_path / "tokenizer"
    vocabulary = {word: number for number, word in enumerate(words)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    repository = tmp_path / "huggingface" / "hub" / "models--bert-base-uncased"
    cached(repository, {path.name: path for path in folder.iterdir()})
    key = ModelKey("custom", "OpenCLIP/ViT-L-14-CLIPA", Random(0))
    tokenize = sources["custom"].transforms(key)[TEXT]
    found = tokenize.apply("A cat.")
    # open_clip blanks the separator that ends a text for these variants.
    assert found.tolist() == [2, 5, 6, 1, *[0] * 28]
    assert found.shape == tokenize.spec.shape
    assert tokenize.apply("cat " * 30).tolist() == [2, *[6] * 30, 0]
    with pytest.raises(ServerInvalidRequestError, match=r"has 33 tokens.* at most 32"):
        tokenize.apply("cat " * 31)


def test_a_text_tower_of_the_hub_needs_its_configuration(sources: Sources, tmp_path: Path) -> None:
    from transformers import RobertaConfig

    key = ModelKey("custom", "OpenCLIP/roberta-ViT-B-32", Random(0))
    with pytest.raises(WeightsMissingError, match=r"roberta-base/config\.json"):
        sources["custom"].structure(key)
    small = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    folder = tmp_path / "config"
    RobertaConfig(vocab_size=90, intermediate_size=64, **small).save_pretrained(folder)
    repository = tmp_path / "huggingface" / "hub" / "models--roberta-base"
    cached(repository, {"config.json": folder / "config.json"})
    modules = {one.name: one for one in sources["custom"].structure(key).modules}
    assert modules["text"].last.shape == (512,)
    assert modules["text"].modality == TEXT
    assert modules["text.transformer.encoder.layer.1"].last.shape == (77, 32)
    assert not modules["text.transformer.encoder.layer.1"].prefix_tokens
