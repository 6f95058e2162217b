"""What the server says of the axes of modules' outputs is what the axes are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision import models

from thingsvision_client import Client, Reduction
from thingsvision_server.backends.axes import with_axes
from thingsvision_server.backends.modules import CallInfo, ModuleInfo
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.inputs import IMAGE, InputSpec

FIRST = ("channels", "height", "width")
LAST = ("height", "width", "channels")
SEQUENCE = ("tokens", "features")


class Own(nn.Module):
    """A network of a user, whose sums and activations have no class that says anything."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.last = nn.Linear(5, 4)
        self.mix = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Go from channels first to channels last, and then to something else."""
        x = self.act(self.stem(x))
        x = self.last(x.permute(0, 2, 3, 1))
        return self.mix(x.flatten(1, 2).unsqueeze(1))


NETWORKS = {
    "own": Own,
    "resnet18": lambda: models.resnet18(weights=None),
    "densenet121": lambda: models.densenet121(weights=None),
    "convnext_tiny": lambda: models.convnext_tiny(weights=None),
    "swin_t": lambda: models.swin_t(weights=None),
}


def modules_for(network: nn.Module, shape: tuple[int, ...]) -> tuple[ModuleInfo, ...]:
    return describe(network, {IMAGE: Tower(network, InputSpec(shape))}).modules


@pytest.mark.parametrize("name", NETWORKS)
def test_height_and_width_are_the_axes_that_change_with_those_of_the_image(name: str) -> None:
    """The judge: a taller or wider image changes the length of just these axes."""
    with torch.device("meta"):
        network = NETWORKS[name]().eval()
    base, taller, wider = (
        modules_for(network, (3, *size)) for size in ((64, 96), (128, 96), (64, 192))
    )
    unknown = []
    for one, tall, wide in zip(base, taller, wider, strict=True):
        for calls in zip(one.calls, tall.calls, wide.calls, strict=True):
            axes = calls[0].axes
            assert len(axes) == len(calls[0].shape)
            for place, axis in enumerate(axes):
                lengths = [call.shape[place] for call in calls]
                grows_down, grows_right = (length != lengths[0] for length in lengths[1:])
                assert not grows_down or axis in ("height", ""), (one.name, axes)
                assert not grows_right or axis in ("width", ""), (one.name, axes)
            unknown += [one.name] if "" in axes else []
    assert unknown == (["", "mix"] if name == "own" else [])


def test_outputs_that_fit_two_orders_or_attention_are_unknown() -> None:
    conv = ModuleInfo(
        "conv", "Conv2d", "", 1, "", 0, (CallInfo((4, 6, 6)),),
        classes=("torch.nn.modules.conv.Conv2d",),
    )  # fmt: skip
    linear = replace(
        conv, name="linear", calls=(CallInfo((6, 6, 9)),),
        classes=("torch.nn.modules.linear.Linear",),
    )  # fmt: skip
    tokens = replace(conv, name="tokens", classes=("x.Block",), calls=(CallInfo((36, 8)),))
    tokens = replace(tokens, prefix_tokens=0)
    act = replace(conv, classes=("torch.nn.modules.activation.ReLU",))

    def axes_of(shape: tuple[int, ...], *others: ModuleInfo) -> tuple[str, ...]:
        asked = replace(act, calls=(CallInfo(shape),))
        return with_axes([*others, asked], {})[-1].last.axes

    assert axes_of((7, 6, 6), conv) == FIRST
    assert axes_of((6, 6, 7), conv, linear) == LAST
    assert axes_of((6, 6, 6), conv) == FIRST
    assert axes_of((6, 6, 6), conv, linear) == ("", "", "")
    assert axes_of((7, 5, 5), conv) == ("", "", "")
    assert axes_of((7, 6, 6)) == ("", "", "")
    assert axes_of((3, 36, 36), replace(conv, calls=(CallInfo((4, 36, 36)),)), tokens) == ("",) * 3
    assert with_axes([tokens], {})[0].last.axes == SEQUENCE


@pytest.mark.parametrize(
    ("kind", "attributes", "axes"),
    [
        ("Conv2D", "data_format=channels_last", LAST),
        ("MaxPooling2D", "pool_size=(2, 2), data_format=channels_first", FIRST),
        ("Conv", "strides=[2, 2]", FIRST),
        ("AveragePool", "", FIRST),
        ("Transpose", "", ("", "", "")),
        ("Conv2d", "", ("", "", "")),
    ],
)
def test_layers_of_keras_and_operators_of_onnx(
    kind: str, attributes: str, axes: tuple[str, ...]
) -> None:
    module = ModuleInfo("x", kind, attributes, 1, "", 0, (CallInfo((4, 5, 6)),))
    assert with_axes([module], {})[0].last.axes == axes


def test_columns_say_what_is_left_of_the_axes(client: Client, photos: list) -> None:
    model = "torchvision/squeezenet1_1@random:0"
    ready = client.extract(model, photos[:1], ["features.12", "classifier.1", ""])
    assert ready.axes == {"features.12": FIRST, "classifier.1": FIRST, "": ("features",)}
    assert ready.to_dict()["axes"]["features.12"] == list(FIRST)
    assert ready.flattened().axes["features.12"] == ("features",)
    cases = [
        (Reduction(pool="mean", pool_axes=(1, 2)), ("channels",)),
        (Reduction(pool="max", pool_axes=(0,)), ("height", "width")),
        (Reduction(units=(3, 1)), ("features",)),
    ]
    for reduction, axes in cases:
        found = client.extract(model, photos[:1], "features.12", reduction=reduction)
        assert found.axes["features.12"] == axes
    stream = client.stream(model, photos[:1], "features.12")
    assert stream.axes == {"features.12": FIRST}
    stream.close()
    listed = {one.name: one for one in client.modules(model)}
    assert listed["features.12"].output_axes == FIRST
    assert listed["classifier.1"].output_axes == FIRST


def test_tokens_and_calls_are_named(client: Client, photos: list) -> None:
    model, block = "timm/vit_tiny_patch16_224@random:0", "blocks.0"
    found = client.extract(model, photos[:1], [block, f"{block}@all"])
    assert found.axes == {block: SEQUENCE, f"{block}@all": ("calls", *SEQUENCE)}
    pooled = client.extract(model, photos[:1], block, token_extraction="cls_token")
    assert pooled.axes == {block: ("features",)}
