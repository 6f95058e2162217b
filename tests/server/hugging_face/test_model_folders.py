"""Checkpoints of `transformers`: where they are found, what is read, and which are refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.serving import open_sources
from support.tiny_checkpoints import CHECKPOINTS, TEXT, at, direct, save
from thingsvision_client import Client, PreprocessingOverrides
from thingsvision_client.errors import InvalidRequestError, NotExtractableError
from thingsvision_client.errors import InvalidWeightsError as ClientInvalidWeightsError
from thingsvision_client.errors import PreconditionError as ClientPreconditionError
from thingsvision_client.errors import UnknownModelError as ClientUnknownModelError
from thingsvision_client.errors import WeightsMismatchError as ClientWeightsMismatchError
from thingsvision_client.errors import WeightsMissingError as ClientWeightsMissingError
from thingsvision_server.backends.torch.model import state_sha256
from thingsvision_server.errors import UnknownModelError, UnknownWeightsError
from thingsvision_server.sources.base import ModelKey, Pretrained, WeightsState

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


def test_modules_are_barred_when_the_weights_come_after_they_were_listed(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    own = at(folder, "slow")
    save("tiny-vit", own)
    weights = (own / "model.safetensors").rename(folder / "weights")
    assert {m.name: m for m in client.modules("transformers/slow")}["pooler"].extractable
    weights.rename(own / "model.safetensors")
    with pytest.raises(NotExtractableError, match=r"no weights for it .*pooler\.dense\.bias"):
        client.extract("transformers/slow", photos[:1], "pooler.activation")
    # And while a model in memory outlives its files.
    client.load("transformers/slow")
    (own / "model.safetensors").unlink()
    smaller = PreprocessingOverrides(resize=(32, 32), interpolation="nearest")
    with pytest.raises(NotExtractableError, match=r"no weights for it .*pooler\.dense\.bias"):
        client.extract("transformers/slow", photos[:1], "pooler.activation", preprocessing=smaller)
    client.unload("transformers/slow")
    shutil.rmtree(own)


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
    # No name that a request could have: nothing of it is listed, and all others are.
    at(folder, "late").rename(at(folder, "late (old)"))
    assert listed() == sorted(CHECKPOINTS)
    shutil.rmtree(at(folder, "late (old)"))


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
        "from thingsvision_server.backends.tensorflow.model import TensorFlowRuntime; "
        "from thingsvision_server.sources import Sources; "
        "from thingsvision_server.sources.context import SourceContext; "
        "from thingsvision_server.sources.weights.folder import WeightsFolder; "
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


def test_the_part_of_a_checkpoint_that_fits_is_used(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    network = direct(at(folder, "resnet"))
    own = {f"model.{name}": tensor * 1.5 for name, tensor in network.state_dict().items()}
    path = tmp_path / "lightning.ckpt"
    torch.save({"epoch": 1, "state_dict": own | {"head.weight": torch.ones(2)}}, path)
    model = f"transformers/resnet@sha256:{client.upload_weights(path)}"
    network.load_state_dict({name.removeprefix("model."): x for name, x in own.items()})
    assert client.load(model).model_sha256 == state_sha256(network)


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
        r"needs Python code of its own \(auto_map\), and this server never runs code",
    ),
    "code-of-processor": (
        lambda path: changed(path, PROCESSOR, auto_map={"AutoImageProcessor": "own.Processor"}),
        "never runs code from a checkpoint",
    ),
    "no-processor": (
        lambda path: (path / PROCESSOR).unlink(),
        r"has no preprocessor_config\.json, which defines how images are preprocessed; "
        "put one into",
    ),
    "no-type": (
        lambda path: changed(path, CONFIG, model_type=None),
        r"config\.json does not name a model_type",
    ),
    "quantized": (
        lambda path: changed(path, CONFIG, quantization_config={"quant_method": "gptq"}),
        "weights are quantized; use a checkpoint with float weights instead",
    ),
    "sounds": (lambda path: changed(path, PROCESSOR, sampling_rate=16000), "audio, not images"),
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
    with pytest.raises(
        ClientInvalidWeightsError, match=r"pickled/pytorch_model\.bin is not a state"
    ):
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
def test_paths_are_not_names(client: Client, name: str) -> None:
    from thingsvision_client.values.model import Model

    with pytest.raises(InvalidRequestError, match=r"the name must be a folder in .*, not a path"):
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
