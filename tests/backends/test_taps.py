"""What names of modules take: steps of modules that run several times, tokens of transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from support.closeness import assert_close
from support.serving import open_sources
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import TokenExtraction, taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.errors import (
    InvalidRequestError,
    ModuleNeverRunsError,
    NotExtractableError,
    UnknownModuleError,
)
from thingsvision_server.inputs import IMAGE, InputSpec
from thingsvision_server.sources.base import ModelKey, Random

CLS, AVG, BOTH = (
    TokenExtraction.CLS_TOKEN,
    TokenExtraction.AVG_POOL,
    TokenExtraction.CLS_TOKEN_AVG_POOL,
)


class Loop(nn.Module):
    """Runs `step` four times, `relu` on two shapes, `idle` never; `end@all` is only a name."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)
        self.relu = nn.ReLU()
        self.idle = nn.Identity()
        self.mixed = nn.Flatten(0)
        self.widen = nn.Linear(4, 6)
        self.add_module("end@all", nn.Linear(6, 6))
        self.add_module("end@t=1", nn.Linear(6, 5))

    def forward(self, image: Tensor) -> Tensor:
        state = image.flatten(1)
        for _ in range(4):
            state = self.step(state)
        wide = self.relu(self.widen(self.relu(state)))
        self.mixed(wide)
        end, last = self.get_submodule("end@all"), self.get_submodule("end@t=1")
        result: Tensor = last(end(end(wide)))
        return result


def structure_of(network: nn.Module, *shape: int) -> Structure:
    return describe(network, {IMAGE: Tower(network, InputSpec(shape))})


def run(network: nn.Module, images: Tensor, names: list[str], tokens: Any = None) -> list[Any]:
    found = taps(structure_of(network, *images.shape[1:]), names, tokens or TokenExtraction.NONE)
    model = TorchModel(network, "cpu")
    rows = model.run([images], found).rows
    for tap, row in zip(found, rows, strict=True):
        assert row.shape == (len(images), *tap.output_shape)
        assert tap.row_bytes * len(images) == row.nbytes
    return rows


def hooked(network: nn.Module, images: Tensor, names: list[str]) -> list[list[Any]]:
    """Return clones of the outputs of every call, by PyTorch's own hooks."""
    calls: list[list[Any]] = [[] for _ in names]
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, kept=kept: kept.append(output.clone().numpy())
        )
        for name, kept in zip(names, calls, strict=True)
    ]
    with torch.inference_mode():
        network(images)
    for handle in handles:
        handle.remove()
    return calls


@pytest.fixture
def loop() -> nn.Module:
    torch.manual_seed(0)
    return Loop().eval()


def pixels(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- steps


def test_a_step_all_steps_and_the_last(loop: nn.Module) -> None:
    images = pixels(3, 1, 2, 2)
    (calls,) = hooked(loop, images, ["step"])
    names = ["step", "step@all", "step@t=0", "step@t=3", "step@t=1"]
    last, every, first, fourth, second = run(loop, images, names)
    assert len(calls) == 4
    np.testing.assert_array_equal(last, calls[3])
    np.testing.assert_array_equal(every, np.stack(calls, axis=1))
    for found, call in ((first, 0), (fourth, 3), (second, 1)):
        np.testing.assert_array_equal(found, calls[call])


def test_one_call_can_be_asked_for_as_a_step_too(loop: nn.Module) -> None:
    images = pixels(2, 1, 2, 2)
    plain, first, every = run(loop, images, ["widen", "widen@t=0", "widen@all"])
    np.testing.assert_array_equal(plain, first)
    np.testing.assert_array_equal(every, plain[:, None])


def test_the_whole_model_has_steps(loop: nn.Module) -> None:
    images = pixels(2, 1, 2, 2)
    whole, first = run(loop, images, ["", "@t=0"])
    np.testing.assert_array_equal(whole, first)


def test_calls_of_different_shapes_come_one_by_one(loop: nn.Module) -> None:
    images = pixels(2, 1, 2, 2)
    (calls,) = hooked(loop, images, ["relu"])
    narrow, wide, last = run(loop, images, ["relu@t=0", "relu@t=1", "relu"])
    np.testing.assert_array_equal(narrow, calls[0])
    np.testing.assert_array_equal(wide, calls[1])
    np.testing.assert_array_equal(last, calls[1])
    with pytest.raises(NotExtractableError, match=r"'relu@all'.*different shapes \(\[4\], \[6\]\)"):
        taps(structure_of(loop, 1, 2, 2), ["relu@all"])


def test_a_name_with_a_step_in_it_is_a_name(loop: nn.Module) -> None:
    images = pixels(2, 1, 2, 2)
    end, last = hooked(loop, images, ["end@all", "end@t=1"])
    names = ["end@all", "end@all@all", "end@all@t=0", "end@t=1", "end@t=1@t=0"]
    found = run(loop, images, names)
    expected = [end[1], np.stack(end, axis=1), end[0], last[0], last[0]]
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)


def test_names_inside_wrappers_of_pytorch_are_understood(loop: nn.Module) -> None:
    images = pixels(2, 1, 2, 2)
    names = ["module.step@t=1", "_orig_mod.module.step", "step"]
    early, last, plain = run(loop, images, names)
    steps = hooked(loop, images, ["step"])[0]
    np.testing.assert_array_equal(early, steps[1])
    np.testing.assert_array_equal(last, plain)
    with pytest.raises(UnknownModuleError, match=r"no module 'module\.stop'"):
        taps(structure_of(loop, 1, 2, 2), ["module.stop"])


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        (
            "step@t=4",
            UnknownModuleError,
            "'step' runs 4 times: the step must be @t=0 to @t=3, got 'step@t=4'",
        ),
        ("step@t=9", UnknownModuleError, "'step' runs 4 times"),
        ("step@t=-1", UnknownModuleError, "no module 'step@t=-1'. Calls of 'step' are step@t=0 to"),
        ("step@t=", UnknownModuleError, "no module 'step@t='. .*step@t=3, or all: step@all"),
        ("step@last", UnknownModuleError, "no module 'step@last'. Calls of 'step'"),
        ("stop@all", UnknownModuleError, "no module 'stop'. Did you mean 'step'"),
        ("idle@t=0", ModuleNeverRunsError, "'idle@t=0' can't be extracted: it does not run"),
        ("mixed@all", NotExtractableError, "'mixed@all' can't be extracted: .*no row per image"),
    ],
)
def test_wrong_names_are_refused(
    loop: nn.Module, name: str, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        taps(structure_of(loop, 1, 2, 2), [name])


def test_names_come_once_and_not_never(loop: nn.Module) -> None:
    structure = structure_of(loop, 1, 2, 2)
    with pytest.raises(InvalidRequestError, match="must name at least one module"):
        taps(structure, [])
    with pytest.raises(InvalidRequestError, match="'step@all' is named twice"):
        taps(structure, ["step@all", "step", "step@all"])


def test_steps_of_a_residual_block() -> None:
    """A ReLU that works in place runs twice, on one shape: before and after the sum."""
    network = models.resnet18(weights=None).eval()
    images = pixels(2, 3, 64, 64)
    relu, norm = hooked(network, images, ["layer1.0.relu", "layer1.0.bn1"])
    names = ["layer1.0.relu@all", "layer1.0.bn1@t=0", "layer1.0.relu"]
    every, normed, last = run(network, images, names)
    np.testing.assert_array_equal(every, np.stack(relu, axis=1))
    np.testing.assert_array_equal(normed, norm[0])
    np.testing.assert_array_equal(last, relu[1])
    assert normed.min() < 0, "the ReLU overwrote what it was given"


@pytest.mark.parametrize(
    ("asked", "ran"),
    [
        (["V1.output@t=0"], {"V1": 1, "V2": 0, "IT": 0, "decoder": 0}),
        (["V1.output@t=0", "V2.output@t=1"], {"V1": 2, "V2": 2, "IT": 1, "decoder": 0}),
        (["V1.output@all"], {"V1": 5, "V2": 4, "IT": 4, "decoder": 0}),
        (["V4"], {"V1": 5, "V2": 5, "IT": 4, "decoder": 0}),
    ],
)
def test_the_pass_ends_after_the_last_step_asked_for(
    tmp_path: Path, asked: list[str], ran: dict[str, int]
) -> None:
    source = open_sources(tmp_path)["custom"]
    key = ModelKey("custom", "cornet-rt", Random(0))
    model: Any = source.load(key, "cpu")
    counts = dict.fromkeys(("V1", "V2", "IT", "decoder"), 0)

    def count(name: str) -> Any:
        return lambda *_: counts.update({name: counts[name] + 1})

    for name in counts:
        inner = name if name == "decoder" else f"{name}.conv1"
        model.network.get_submodule(inner).register_forward_pre_hook(count(name))
    model.run([pixels(1, 3, 224, 224)], taps(source.structure(key), asked))
    assert counts == ran


# ---------------------------------------------------------------- tokens

PREFIXES = [
    ("vit_tiny_patch16_224", "blocks.3", 1),
    ("vit_tiny_patch16_224", "blocks.3.mlp.fc1", 1),
    ("vit_tiny_patch16_224", "norm", 1),
    ("vit_tiny_patch16_224", "patch_embed", 0),
    ("vit_small_patch14_reg4_dinov2", "blocks.3", 5),
    ("vit_small_patch14_dinov2", "norm", 1),
    ("vit_base_patch16_siglip_224", "blocks.3", 0),
    ("deit_tiny_distilled_patch16_224", "blocks.3", 2),
    ("xcit_nano_12_p16_224", "blocks.3", 0),
    ("xcit_nano_12_p16_224", "cls_attn_blocks.0", 1),
    ("xcit_nano_12_p16_224", "norm", 1),
    ("cait_xxs24_224", "blocks.3", 0),
    ("cait_xxs24_224", "norm", 1),
    ("mixer_s32_224", "blocks.3", 0),
    ("mixer_s32_224", "blocks.3.mlp_tokens.fc1", None),
    ("vit_tiny_patch16_224", "head", None),
    ("vit_tiny_patch16_224", "patch_embed.proj", None),
    ("vit_tiny_patch16_224", "blocks.3.attn.q_norm", None),
    ("swin_tiny_patch4_window7_224", "layers.0", None),
    ("swin_tiny_patch4_window7_224", "norm", None),
    ("resnet18", "layer3", None),
    ("resnet18", "fc", None),
]


@pytest.mark.parametrize(("architecture", "module", "prefix"), PREFIXES)
def test_special_tokens_are_counted(architecture: str, module: str, prefix: int | None) -> None:
    structure = timm_structure(architecture)
    info = {info.name: info for info in structure.modules}[module]
    assert info.calls
    assert info.prefix_tokens == prefix
    width = info.last.shape[-1]
    if prefix is None:
        for kind in (CLS, AVG, BOTH):
            with pytest.raises(
                NotExtractableError,
                match=re.escape(f"{kind.value} needs a module that outputs a token"),
            ):
                taps(structure, [module], kind)
        return
    assert taps(structure, [module], AVG)[0].output_shape == (width,)
    if prefix == 0:
        for kind in (CLS, BOTH):
            with pytest.raises(NotExtractableError, match="has no class token; use avg_pool"):
                taps(structure, [module], kind)
    else:
        assert taps(structure, [module], CLS)[0].output_shape == (width,)
        assert taps(structure, [module], BOTH)[0].output_shape == (2 * width,)


_structures: dict[str, Structure] = {}


def timm_structure(architecture: str) -> Structure:
    if architecture not in _structures:
        with torch.device("meta"):
            network = timm.create_model(architecture).eval()
            size = network.default_cfg["input_size"]
            _structures[architecture] = structure_of(network, *size)
    return _structures[architecture]


@pytest.mark.parametrize(
    ("architecture", "module", "prefix"),
    [
        ("vit_tiny_patch16_224", "blocks.1", 1),
        ("deit_tiny_distilled_patch16_224", "norm", 2),
        ("vit_small_patch14_reg4_dinov2", "blocks.1", 5),
    ],
)
def test_tokens_are_taken_as_documented(architecture: str, module: str, prefix: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(architecture, img_size=56, depth=2).eval()
    images = pixels(2, 3, 56, 56)
    ((tokens,),) = hooked(network, images, [module])
    (class_token,) = run(network, images, [module], CLS)
    (mean,) = run(network, images, [module], AVG)
    (both,) = run(network, images, [module], BOTH)
    np.testing.assert_array_equal(class_token, tokens[:, 0])
    assert_close(mean, tokens[:, prefix:].mean(axis=1))
    np.testing.assert_array_equal(both, np.concatenate((class_token, mean), axis=1))


class TokenLoop(nn.Module):
    """A recurrent transformer of nine patches and a class token, and a head on them."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4, stride=4)
        self.patch_embed.num_patches = 9  # type: ignore[assignment]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.Linear(8, 8)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token + patches.mean(1, keepdim=True), patches), dim=1)
        pooled: Tensor = self.block(self.block(self.block(tokens))[:, 0])
        return pooled


class TokenLoopWithTokensLast(TokenLoop):
    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat((patches.mean(1, keepdim=True), patches), dim=1)
        result: Tensor = self.block(self.block(tokens))
        return result


def test_tokens_of_steps() -> None:
    torch.manual_seed(0)
    network = TokenLoopWithTokensLast().eval()
    images = pixels(2, 3, 12, 12)
    (calls,) = hooked(network, images, ["block"])
    every, first = run(network, images, ["block@all", "block@t=0"], BOTH)
    assert every.shape == (2, 2, 16)
    for step, tokens in enumerate(calls):
        np.testing.assert_array_equal(every[:, step, :8], tokens[:, 0])
        mean = tokens[:, 1:].mean(axis=1)
        assert_close(every[:, step, 8:], mean)
    np.testing.assert_array_equal(first, every[:, 0])


def test_tokens_are_refused_if_only_other_calls_have_them() -> None:
    network = TokenLoop().eval()
    structure = structure_of(network, 3, 12, 12)
    assert [call.shape for call in structure.modules[-1].calls] == [(10, 8), (10, 8), (8,)]
    for name in ("block", "block@t=0"):
        with pytest.raises(
            NotExtractableError, match="avg_pool needs a module that outputs a token sequence"
        ):
            taps(structure, [name], AVG)
    assert taps(structure, ["block@t=0"])[0].output_shape == (10, 8)
