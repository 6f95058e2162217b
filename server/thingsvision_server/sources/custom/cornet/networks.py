"""The networks CORnet-Z, -R, -RT and -S.

Kubilius et al. 2018 (bioRxiv 408385) and 2019 (NeurIPS). Modules are named as in the published
weights. For an image of 3 x 224 x 224, the areas V1, V2, V4 and IT output 64, 128, 256 and 512
channels of 56, 28, 14 and 7 pixels a side; the decoder outputs 1000 classes.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

_STEPS = 5
"""Time steps of CORnet-R and -RT."""


def cornet_z() -> nn.Module:
    """Build CORnet-Z: one convolution per area, no recurrence."""
    network = _feedforward(
        _AreaZ(3, 64, kernel=7, stride=2), _AreaZ(64, 128), _AreaZ(128, 256), _AreaZ(256, 512)
    )
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def cornet_r() -> nn.Module:
    """Build CORnet-R: an area's input is the output of the area below in the same step."""
    return _CORnetR(is_delayed=False)


def cornet_rt() -> nn.Module:
    """Build CORnet-RT: an area's input is the output of the area below in the previous step."""
    return _CORnetR(is_delayed=True)


def cornet_s() -> nn.Module:
    """Build CORnet-S: a bottleneck per area that runs 2, 4 and 2 times with a skip."""
    network = _feedforward(
        _first_area_s(), _AreaS(64, 128, 2), _AreaS(128, 256, 4), _AreaS(256, 512, 2)
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return network


def _feedforward(v1: nn.Module, v2: nn.Module, v4: nn.Module, it: nn.Module) -> nn.Sequential:
    decoder = _decoder()
    decoder.add_module("output", nn.Identity())
    return nn.Sequential(OrderedDict(V1=v1, V2=v2, V4=v4, IT=it, decoder=decoder))


def _decoder() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(512, 1000)
        )
    )


class _AreaZ(nn.Module):
    def __init__(self, below: int, channels: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(below, channels, kernel, stride, padding=kernel // 2)
        self.nonlin = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.output = nn.Identity()

    def forward(self, below: Tensor) -> Tensor:
        pooled: Tensor = self.output(self.pool(self.nonlin(self.conv(below))))
        return pooled


class _AreaR(nn.Module):
    """One area of CORnet-R and -RT; its output is its state, which is fed back in the next step."""

    def __init__(self, below: int, channels: int, *, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.conv_input = nn.Conv2d(below, channels, kernel, stride, padding=kernel // 2)
        self.norm_input = nn.GroupNorm(32, channels)
        self.nonlin_input = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(32, channels)
        self.nonlin1 = nn.ReLU()
        self.output = nn.Identity()

    def forward(self, below: Tensor | None, state: Tensor) -> Tensor:
        """Return the next state; `below` is None while no input has arrived from the area below."""
        if below is not None:
            state = self.nonlin_input(self.norm_input(self.conv_input(below))) + state
        following: Tensor = self.output(self.nonlin1(self.norm1(self.conv1(state))))
        return following

    def initial_state(self, below: Tensor) -> Tensor:
        """Return the state before the first step: zeros, shaped like the output for `below`."""
        stride = self.conv_input.stride[0]
        rows, columns = (-(-side // stride) for side in below.shape[-2:])
        return below.new_zeros(len(below), self.conv_input.out_channels, rows, columns)


class _CORnetR(nn.Module):
    """CORnet-R and -RT: an area's input is the current or the previous output of the area below.

    In the first step no input has reached the areas above V1 yet: the outputs of V2, V4 and IT
    then depend only on the weights and are the same for all images.
    """

    def __init__(self, *, is_delayed: bool) -> None:
        super().__init__()
        self._is_delayed = is_delayed
        self.V1 = _AreaR(3, 64, kernel=7, stride=4)
        self.V2 = _AreaR(64, 128)
        self.V4 = _AreaR(128, 256)
        self.IT = _AreaR(256, 512)
        self.decoder = _decoder()

    def forward(self, image: Tensor) -> Tensor:
        areas = (self.V1, self.V2, self.V4, self.IT)
        states = [image]
        for area in areas:
            states.append(area.initial_state(states[-1]))
        for step in range(_STEPS):
            following = [image]
            for number, area in enumerate(areas):
                below = (states if self._is_delayed else following)[number]
                has_arrived = step > 0 or area is self.V1
                following.append(area(below if has_arrived else None, states[number + 1]))
            states = following
        classes: Tensor = self.decoder(states[-1])
        return classes


def _first_area_s() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            norm1=nn.BatchNorm2d(64),
            nonlin1=nn.ReLU(),
            pool=nn.MaxPool2d(3, stride=2, padding=1),
            conv2=nn.Conv2d(64, 64, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(64),
            nonlin2=nn.ReLU(),
            output=nn.Identity(),
        )
    )


class _VariableStrideConv2d(nn.Conv2d):
    """A convolution whose stride is an argument of each call."""

    def forward(self, below: Tensor, stride: int = 1) -> Tensor:
        return functional.conv2d(below, self.weight, self.bias, stride=stride, padding=self.padding)


class _AreaS(nn.Module):
    """V2, V4 or IT of CORnet-S: convolutions are shared over time, normalisations are not."""

    scale = 4

    def __init__(self, below: int, channels: int, times: int) -> None:
        super().__init__()
        wide = channels * self.scale
        self.times = times
        self.conv_input = nn.Conv2d(below, channels, 1, bias=False)
        self.skip = nn.Conv2d(channels, channels, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1, bias=False)
        self.nonlin1 = nn.ReLU()
        self.conv2 = _VariableStrideConv2d(wide, wide, 3, padding=1, bias=False)
        self.nonlin2 = nn.ReLU()
        self.conv3 = nn.Conv2d(wide, channels, 1, bias=False)
        self.nonlin3 = nn.ReLU()
        self.output = nn.Identity()
        for step in range(times):
            for number, width in ((1, wide), (2, wide), (3, channels)):
                self.add_module(f"norm{number}_{step}", nn.BatchNorm2d(width))

    def forward(self, below: Tensor) -> Tensor:
        state: Tensor = self.conv_input(below)
        skip = self.norm_skip(self.skip(state))
        for step in range(self.times):
            norm1, norm2, norm3 = (self.get_submodule(f"norm{n}_{step}") for n in (1, 2, 3))
            inner = self.nonlin1(norm1(self.conv1(state)))
            inner = self.nonlin2(norm2(self.conv2(inner, stride=1 if step else 2)))
            state = self.output(self.nonlin3(norm3(self.conv3(inner)) + skip))
            skip = state
        return state
