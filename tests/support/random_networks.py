"""Small networks whose activations may differ from call to call, as `.pt2` files; run on its own.

A server in this process has cuDNN's flags set in a way that `torch.export.export` can't read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as users write it
from torch import nn

Function = Callable[[torch.Tensor], torch.Tensor]


class Noise(nn.Module):
    """Computes a function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        if isinstance(function, nn.Module):
            self.inner = function
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Net(nn.Module):
    """Has a part that may be random."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.noise = Noise(function)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(self.conv(x))


class Sampled(nn.Module):
    """Keeps a dropout in training mode, on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def train(self, _mode: bool = True) -> Sampled:
        return super().train(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x)


def seeded(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return x + torch.randn(4, 1, 1)


def _checked(size: Any) -> Any:
    torch._check(size >= 1)
    torch._check(size <= 8)
    return size


def filled_in_two(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    out[:, :2] = x[:, 2:]
    out[:, 2:] = x[:, :2]
    return out


def filled_by_index(x: torch.Tensor) -> torch.Tensor:
    out = x.new_empty(x.shape[0], 4)
    for channel in range(4):
        out[:, channel] = x[:, channel].mean((1, 2))
    return out


def filled_in_part(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty(x.shape[0], 4, 8, 8)
    out[:, :3] = x[:, :3]
    return out + 1


def filled_at_once(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x).copy_(x) * torch.empty(1).fill_(2.0)


class Standardized(nn.Conv2d):
    """Scales its weights by a batch norm of the weights alone, as BiT does."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        with torch.no_grad():  # the same in each process
            for number, tensor in enumerate(self.parameters()):
                tensor.copy_(torch.sin(torch.arange(tensor.numel()) + number).view_as(tensor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


RANDOM: dict[str, Function] = {
    "randn_like": lambda x: x + torch.randn_like(x),
    "rand": lambda x: x * torch.rand(4, 1, 1),
    "normal_": lambda x: x + torch.zeros(4, 1, 1).normal_(),
    "bernoulli": lambda x: torch.bernoulli(torch.sigmoid(x)),
    "randperm": lambda x: x[:, torch.randperm(4)],
    "exponential_": lambda x: F.gumbel_softmax(x, dim=1),
    "binomial": lambda x: x + torch.binomial(torch.ones(4, 1, 1), torch.ones(4, 1, 1) / 2),
    "randn": seeded,
}
"""By the name of the operator: draws that no mode switches off."""

SWITCHED_ON: dict[str, Function] = {
    "dropout": F.dropout,
    "feature_dropout": F.dropout2d,
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "dropout_": lambda x: F.dropout(x * 1, 0.5, inplace=True),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(
        x, x, x, dropout_p=0.1
    ),
}
"""By the name of the operator: functions that are called as if the network trained."""

TRAINING: dict[str, Function] = {"own dropout": Sampled()}
"""Modules of PyTorch that the network keeps in training mode."""

OF_THE_BATCH: dict[str, Function] = {
    "no statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "of standardized": nn.Sequential(
        Standardized(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "by function": lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True),
}
"""Functions of the whole batch."""

OF_VALUES: dict[str, Function] = {
    "nonzero": lambda x: x[:, torch.nonzero(x.sum((0, 2, 3)) > 0)[:, 0]],
    "index": lambda x: x.flatten()[x.flatten() > 0],
    "item": lambda x: x.flatten(1)[:, : _checked(x.amax().long().clamp(1, 8).item())],
}
"""Functions whose results have a shape that depends on the values, by their operator."""

UNWRITTEN: dict[str, Function] = {
    "empty_like": lambda x: x + torch.empty_like(x),
    "new_empty": lambda x: torch.cat([x, x.new_empty(x.shape[0], 1, 8, 8)], 1),
    "empty": filled_in_part,
}
"""By the name of the operator: reads of memory that nothing was written to, which holds zeros."""

REPEATABLE: dict[str, Function] = {
    "zero rate": lambda x: F.dropout(x, 0.0),
    "not training": lambda x: F.dropout(x, 0.5, training=False),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "rrelu": F.rrelu,
    "instance norm": F.instance_norm,
    "standardized weights": Standardized(4, 4, 3),
    "modules": nn.Sequential(nn.Dropout(), nn.AlphaDropout(), nn.RReLU(), nn.BatchNorm2d(4)),
    "filled in two": filled_in_two,
    "filled by index": filled_by_index,
    "filled at once": filled_at_once,
}
"""Functions that look alike, but whose values are always the same."""

ALL = {
    "random": RANDOM,
    "switched on": SWITCHED_ON,
    "training": TRAINING,
    "of the batch": OF_THE_BATCH,
    "of values": OF_VALUES,
    "unwritten": UNWRITTEN,
    "repeatable": REPEATABLE,
}


def network(kind: str, name: str) -> Net:
    """Return a network in evaluation mode, the same each time."""
    torch.manual_seed(0)
    return Net(ALL[kind][name]).eval()


def main() -> None:
    dims = ({0: torch.export.Dim("batch")},)
    for kind, functions in ALL.items():
        for name in functions:
            with torch.no_grad():
                program = torch.export.export(
                    network(kind, name), (torch.randn(2, 3, 8, 8),), dynamic_shapes=dims
                )
            torch.export.save(program, Path(sys.argv[1]) / f"{kind} {name}.pt2")


if __name__ == "__main__":
    main()
