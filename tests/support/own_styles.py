"""Small networks in the styles in which people write theirs, two or more of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - as users write it
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from support.plain_network import Plain, conv

SIDE = 16
"""Height and width of their images, pixels."""

Network = Callable[[], nn.Module]


def _blocks(count: int = 3, width: int = 4) -> list[nn.Module]:
    return [conv(3, width), *(conv(width, width) for _ in range(count - 1))]


def _looped(net: Any, x: torch.Tensor) -> torch.Tensor:
    for block in net.blocks:
        x = block(x)
    return x


def _looped_with_skips(net: Any, x: torch.Tensor) -> torch.Tensor:
    x, *rest = net.stem(x), *net.blocks
    for index, block in enumerate(rest):
        x = x + block(x) if index % 2 else block(x)
    return net.head(x.mean((2, 3)))


def _chosen(net: Any, x: torch.Tensor) -> torch.Tensor:
    for name in ("first", "second"):
        x = net.parts[name](x)
    return x


def _all_branches(net: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([part(x) for _, part in net.parts.items()], 1)


def _by_hand(net: Any, x: torch.Tensor) -> torch.Tensor:
    for layer in net.features:
        x = layer(x)
    return x


def _collected(net: Any, x: torch.Tensor) -> torch.Tensor:
    seen = []
    for name, layer in net.features.named_children():
        x = layer(x)
        if name in ("1", "3"):
            seen.append(x.mean((2, 3)))
    return torch.cat(seen, 1)


def _indexed(net: Any, x: torch.Tensor) -> torch.Tensor:
    for index in range(len(net.features)):
        x = net.features[index](x)
    return x


def _sliced(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.features[2:](net.features[:2](x)).flatten(1)


def _apart(net: Any, x: torch.Tensor) -> torch.Tensor:
    r = net.backbone
    x = r.maxpool(r.relu(r.bn1(r.conv1(x))))
    x = r.layer2(r.layer1(x))
    return net.head(r.avgpool(x).flatten(1))


def _children(backbone: nn.Module) -> nn.Module:
    return nn.Sequential(*list(backbone.children())[:-2], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _encoder(net: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = net.patch(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([net.token.expand(len(x), -1, -1), tokens], 1)
    return net.head(net.encoder(tokens)[:, 0])


def _encoder_layer(net: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = net.patch(x).flatten(2).permute(2, 0, 1)
    return net.layer(tokens).mean(0)


def _twice(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.act(net.b(net.act(net.a(x)))) + 1


def _recurrent(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.stem(x)
    state = torch.zeros_like(x)
    for _ in range(3):
        state = net.cell(x + state)
    return state


def _embedded_twice(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.encode(x.mean((2, 3)))
    return net.decode(net.act(y))


def _siamese(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.left(x) - net.right(x.flip(-1))


class Pair(nn.Module):
    """Returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return y * 2, y.mean((2, 3))


def _second_used(net: Any, x: torch.Tensor) -> torch.Tensor:
    _, second = net.pair(x)
    return net.head(second)


def _first_used(net: Any, x: torch.Tensor) -> torch.Tensor:
    first, _ = net.pair(x)
    return net.head(first.mean((2, 3)))


def _in_lists(net: Any, x: torch.Tensor) -> list[Any]:
    return [[net.a(x), {"more": net.b(x)}], None]


def _weights(net: Any, x: torch.Tensor) -> torch.Tensor:
    t = x.flatten(2).transpose(1, 2)
    _, weights = net.attention(t, t, t)
    return weights


def _weights_of_heads(net: Any, x: torch.Tensor) -> torch.Tensor:
    t = net.patch(x).flatten(2).transpose(1, 2)
    y, weights = net.attention(t, t, t, average_attn_weights=False)
    return torch.cat([y.flatten(1), weights.flatten(1)], 1)


def _identities(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.norm(net.conv(net.start(x)))
    return net.end(x + net.shortcut(x))


def _identity_before_in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.conv(x)
    kept = net.before(x)
    x.relu_()
    return net.after(x) + kept


def _in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.conv(x)
    net.relu(x)
    net.unused(x)
    return net.drop(x)


def _unused(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.auxiliary(x)
    return net.main(x)


def _with_modes(net: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        x = net.frozen(x)
        with torch.autocast("cpu", torch.bfloat16):
            x = net.low(x)
            with torch.autocast("cpu", enabled=False):
                x = net.full(x.float())
    return net.head(x.mean((2, 3)))


def _counting(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.calls += 1
    net.seen[0].add_(1)
    return net.conv(x) * net.calls + net.seen


class Fields(NamedTuple):
    """An output."""

    logits: torch.Tensor
    maps: list[torch.Tensor]


@dataclass
class Result:
    """An output."""

    loss: torch.Tensor | None
    hidden: torch.Tensor


def _as_dict(net: Any, x: torch.Tensor) -> Any:
    return OrderedDict(maps=net.a(x), logits=net.b(x).mean((2, 3)))


def _as_named_tuple(net: Any, x: torch.Tensor) -> Any:
    maps = net.a(x)
    return Fields(maps.mean((2, 3)), [maps, net.b(x)])


def _as_dataclass(net: Any, x: torch.Tensor) -> Any:
    return Result(None, net.b(x))


class Symmetric(nn.Module):
    """Makes a weight symmetric."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def _parametrized() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.Linear(8, 8))
    parametrize.register_parametrization(net[2], "weight", Symmetric())
    parametrizations.weight_norm(net[1])
    return net


def _sequence(net: Any, x: torch.Tensor) -> torch.Tensor:
    out, (_, cell) = net.lstm(x.mean(1))
    return torch.cat([out[:, -1], net.gru(out)[1][-1], cell[-1]], 1)


def _of_functions(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = F.max_pool2d(F.relu(F.conv2d(x, net.conv.weight, net.conv.bias)), 2)
    return net.fc.forward(x.mean((2, 3)))


def _hooked() -> nn.Module:
    net = nn.Sequential(*_blocks())
    net[1].register_forward_hook(lambda _module, _inputs, output: output * 2)
    net[0].register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    return net


def _features(*names: str, **renamed: str) -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    net = Plain(stem=conv(3, 4), blocks=nn.Sequential(conv(4, 4), conv(4, 4)), compute=_of_features)
    return create_feature_extractor(net, {name: name for name in names} | renamed)


def _of_features(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.blocks(net.stem(x)).mean((2, 3))


def _resnet() -> Any:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


def _compiled_part() -> nn.Module:
    return Plain(
        features=torch.compile(nn.Sequential(*_blocks())),
        head=nn.DataParallel(nn.Sequential(nn.Flatten(), nn.LazyLinear(4))),
        compute=lambda net, x: net.head(net.features(x)),
    )


def _with_lazy(net: nn.Module) -> nn.Module:
    with torch.compiler.set_stance("force_eager"):
        net(torch.zeros(2, 3, SIDE, SIDE))
    return net


def _features_of(*extra: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.MaxPool2d(2), conv(4, 6), *extra)


def _transformer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, **options)


STYLES: dict[str, tuple[Network, ...]] = {
    "ModuleList in a loop": (
        lambda: Plain(blocks=nn.ModuleList(_blocks()), compute=_looped),
        lambda: Plain(stem=conv(3, 4), blocks=nn.ModuleList(conv(4, 4) for _ in range(3)),
                      head=nn.Linear(4, 2), compute=_looped_with_skips),
    ),
    "ModuleDict": (
        lambda: Plain(parts=nn.ModuleDict({"second": conv(4, 4), "first": conv(3, 4)}),
                      compute=_chosen),
        lambda: Plain(parts=nn.ModuleDict({"conv-1": conv(3, 4), "pool 2": nn.AvgPool2d(1)}),
                      compute=_all_branches),
    ),
    "Sequential iterated by hand": (
        lambda: Plain(features=_features_of(), compute=_by_hand),
        lambda: Plain(features=nn.Sequential(*_blocks(4)), compute=_collected),
    ),
    "indexed layers": (
        lambda: Plain(features=_features_of(nn.Dropout()), compute=_indexed),
        lambda: Plain(features=_features_of(), compute=_sliced),
    ),
    "backbone taken apart": (
        lambda: Plain(backbone=_resnet(), head=nn.Linear(128, 3), compute=_apart),
        lambda: _children(_resnet()),
    ),
    "TransformerEncoder": (
        lambda: Plain(patch=nn.Conv2d(3, 8, 8, 8), token=nn.Parameter(torch.randn(1, 1, 8)),
                      encoder=nn.TransformerEncoder(_transformer(batch_first=True), 2),
                      head=nn.Linear(8, 2), compute=_encoder),
        lambda: Plain(patch=nn.Conv2d(3, 8, 8, 8), layer=_transformer(norm_first=True),
                      compute=_encoder_layer),
    ),
    "parametrizations": (
        _parametrized,
        lambda: nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3)), weight_norm(nn.Conv2d(4, 4, 3)),
                              parametrizations.spectral_norm(nn.Conv2d(4, 2, 3))),
    ),
    "a module called several times": (
        lambda: Plain(a=conv(3, 4), b=conv(4, 4), act=nn.GELU(), compute=_twice),
        lambda: Plain(stem=conv(3, 4), cell=nn.Sequential(conv(4, 4), nn.Tanh()),
                      compute=_recurrent),
    ),
    "shared weights": (
        lambda: _tied(Plain(encode=nn.Linear(3, 8, bias=False), act=nn.Tanh(),
                            decode=nn.Linear(8, 3, bias=False), compute=_embedded_twice)),
        lambda: _same(Plain(left=conv(3, 4), right=nn.Identity(), compute=_siamese)),
    ),
    "several outputs": (
        lambda: Plain(pair=Pair(), head=nn.Linear(4, 2), compute=_second_used),
        lambda: Plain(pair=Pair(), head=nn.Linear(4, 2), compute=_first_used),
        lambda: Plain(a=conv(3, 4), b=conv(3, 2), compute=_in_lists),
    ),
    "attention weights": (
        lambda: Plain(attention=nn.MultiheadAttention(3, 1, batch_first=True), compute=_weights),
        lambda: Plain(patch=nn.Conv2d(3, 8, 4, 4),
                      attention=nn.MultiheadAttention(8, 2, batch_first=True),
                      compute=_weights_of_heads),
    ),
    "Identity": (
        lambda: Plain(start=nn.Identity(), conv=conv(3, 4), norm=nn.Identity(),
                      shortcut=nn.Sequential(), end=nn.Identity(), compute=_identities),
        lambda: Plain(conv=conv(3, 4), before=nn.Identity(), after=nn.Identity(),
                      compute=_identity_before_in_place),
    ),
    "results that nothing uses": (
        lambda: Plain(main=conv(3, 4), auxiliary=nn.Sequential(conv(3, 2), nn.Flatten()),
                      never=nn.Linear(2, 2), compute=_unused),
        lambda: Plain(conv=conv(3, 4), relu=nn.ReLU(True), unused=nn.Identity(),
                      drop=nn.Dropout(), compute=_in_place),
    ),
    "outputs with names": (
        lambda: Plain(a=conv(3, 4), b=conv(3, 2), compute=_as_dict),
        lambda: Plain(a=conv(3, 4), b=conv(3, 2), compute=_as_named_tuple),
        lambda: Plain(a=conv(3, 4), b=conv(3, 2), compute=_as_dataclass),
    ),
    "create_feature_extractor": (
        lambda: _features("stem", "blocks.1"),
        lambda: _features("blocks", stem="early"),
    ),
    "other modes inside": (
        lambda: Plain(frozen=conv(3, 4), low=conv(4, 4), full=conv(4, 4), head=nn.Linear(4, 2),
                      compute=_with_modes),
        lambda: _counters(Plain(conv=conv(3, 4), compute=_counting)),
    ),
    "recurrent layers": (
        lambda: Plain(lstm=nn.LSTM(SIDE, 5, batch_first=True), gru=nn.GRU(5, 3, batch_first=True),
                      compute=_sequence),
        lambda: Plain(lstm=nn.LSTM(SIDE, 5, 2, batch_first=True),
                      gru=nn.GRU(5, 3, batch_first=True, bidirectional=True), compute=_sequence),
    ),
    "weights without calls": (
        lambda: Plain(conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 2), compute=_of_functions),
        _hooked,
    ),
    "wrapped": (
        lambda: nn.DataParallel(nn.Sequential(*_blocks())),
        lambda: torch.compile(nn.Sequential(*_blocks())),
        lambda: _with_lazy(_compiled_part()),
    ),
}  # fmt: skip
"""By style: functions that make the networks."""


def _tied(net: Any) -> Any:
    net.again = nn.Linear(3, 8, bias=False)
    net.again.weight = net.encode.weight
    first = net.compute
    net.compute = lambda inner, x: first(inner, x) + inner.again(x.mean((2, 3))).sum(1, True)
    return net


def _same(net: Any) -> Any:
    net.right = net.left
    return net


def _counters(net: Any) -> Any:
    net.register_buffer("calls", torch.zeros(()))
    net.register_buffer("seen", torch.zeros(1, 4, 1, 1))
    return net
