"""A small PyTorch network, and `torch.export` programs of it as `.pt2` files; run on its own.

A server in this process has cuDNN's flags set in a way that `torch.export.export` can't read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

SIZE = 32
"""Height and width of its images, pixels."""


class Net(nn.Module):
    """Nested modules, one that runs twice, one that only trains, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.act = nn.ReLU()
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Dropout(0.5))
        self.head = nn.Linear(8, 5)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        x = self.act(self.body(x)) * self.scale
        return self.head(x.mean((2, 3)))


def network(seed: int) -> Net:
    """Return the network with weights of its own for each seed."""
    torch.manual_seed(seed)
    net = Net()
    net.stem[1].running_mean.normal_()
    net.stem[1].running_var.uniform_(0.5, 2)
    return net.eval()


class Pair(nn.Module):
    """Gives two tensors, the first computed last; asks for the number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Flatten(2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        early = self.inner(x).reshape(x.shape[0], -1)
        return early + 1, early


class Block(nn.Module):
    """Asks for the number of images, which modules after it need too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0] * 3, -1).reshape(x.shape[0], 3, -1)


class Pairs(nn.Module):
    """Blocks that share the arithmetic of sizes, and a module with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        late, early = self.pair(self.blocks(x))
        return late * 2 + early


class Second(nn.Module):
    """Uses only the second output of modules, and no output of another."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 4, 8, stride=8), nn.ReLU()])
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.memory = nn.LSTM(16, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)
        _, weights = self.attention(tokens, tokens, tokens)
        _, (hidden, _) = self.memory(weights)
        return hidden[-1]


class Words(nn.Module):
    """An embedding of words by their numbers, which may be floats."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.words(numbers.long())


WORDS = [[1, 2, 0], [4, 4, 3]]
"""Texts of three words."""


def words_network() -> Words:
    """Return the embedding, with the same weights each time."""
    torch.manual_seed(8)
    return Words().eval()


SEEDS = {
    "any": 0, "one": 2, "few": 3, "four": 4, "sizes": 5, "pairs": 6, "second": 7, "training": 21
}  # fmt: skip
"""Programs, and the seeds of their weights."""

FIXED = {"one": 1, "four": 4}
"""Programs of exactly so many images."""


def export(name: str, path: Path) -> None:
    """Write a program."""
    others = {"pairs": Pairs, "second": Second}
    net = others[name]().eval() if name in others else network(SEEDS[name])
    if name == "training":
        net.train()
    sides = (48, 64) if name == "sizes" else (SIZE, SIZE)
    images = torch.randn(FIXED.get(name, 2), 3, *sides)
    batch = torch.export.Dim("batch", min=2, max=3) if name == "few" else torch.export.Dim("batch")
    dims = {0: batch}
    if name == "sizes":
        dims |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    shapes = None if name in FIXED else (dims,)
    torch.export.save(torch.export.export(net, (images,), dynamic_shapes=shapes), path)


def main() -> None:
    for name in SEEDS:
        export(name, Path(sys.argv[1]) / f"{name}.pt2")
    numbers = torch.tensor(WORDS)
    for name, inputs in {"integers": numbers, "words": numbers.float()}.items():
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(words_network(), (inputs,), dynamic_shapes=shapes)
        torch.export.save(program, Path(sys.argv[1]) / f"{name}.pt2")


if __name__ == "__main__":
    main()
