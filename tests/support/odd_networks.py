"""Networks whose modules have unusual names, as `.pt2` files; run on its own.

A server in this process has cuDNN's flags set in a way that `torch.export.export` can't read.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

USABLE = [
    "conv-1",
    "layer 1",
    "a/b",
    "stage:1",
    "größe",
    "視覚",
    "Conv2d (3x3)",
    "w'",
    "x[0]",
    "a=b",
    "{x}%s",
    "self",
]
UNUSABLE = {
    "a,b": "a_b",
    "a;b": "a_b",
    "a@1": "a_1",
    'a"b': "a_b",
    "a\nb": "a_b",
    "class": "class_",
}
"""Names that no server takes, and the names that it proposes."""


class Net(nn.Module):
    """Has a part of a given name, which runs twice."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part = self._modules[self.name]
        assert part is not None
        return part(part(x)).relu()


def network(name: str) -> Net:
    """Return the network, the same each time."""
    torch.manual_seed(0)
    return Net(name).eval()


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a name."""
    return folder / f"{[*USABLE, *UNUSABLE].index(name)}.pt2"


def main() -> None:
    warnings.simplefilter("ignore")
    dims = ({0: torch.export.Dim("batch")},)
    for name in [*USABLE, *UNUSABLE]:
        with torch.no_grad():
            program = torch.export.export(
                network(name), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=dims
            )
        torch.export.save(program, path_of(Path(sys.argv[1]), name))


if __name__ == "__main__":
    main()
