"""A script whose network stores what it computes; run by test_untouched_network in a child."""

from __future__ import annotations

import random
import warnings
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from script_outcome import ARRAYS, SAID, refusal, run
from torch import nn

from thingsvision_client import get_extractor_from_model

warnings.filterwarnings("error", "The tensor attribute")  # PyTorch's, on what a network stores

SEEN: dict[str, Any] = {}
LOG: list[Any] = []


class Inner(nn.Module):
    """Keeps tensors wherever networks keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.calls = 0
        self.history: list[Any] = []
        self.cache: dict[str, Any] = {"old": 1}
        self.recent: deque[Any] = deque(maxlen=2)
        self.shapes: set[Any] = set()
        self.state = SimpleNamespace(x=None, inner=[])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        self.act = y
        self.calls += 1
        self.history.append(y.mean())
        self.cache["y"] = {"deep": y}
        self.recent.append(y)
        self.shapes.add(x.ndim)
        self.state.x = y
        self.state.inner.append(y)
        LOG.append(y)
        return y


class Net(nn.Module):
    """Has a buffer that counts, a lazy layer, and an output that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("count", torch.zeros(()))
        self.out = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.out = self.norm(self.inner(x))
        return self.out


def made() -> tuple[Net, dict[str, Any]]:
    """Return a network in training mode, and what its hook fills."""
    torch.manual_seed(0)
    net, found = Net(), {}
    net.inner.register_forward_hook(lambda _m, _i, out: SEEN.update(inner=out))

    def fill(_module: nn.Module, _inputs: Any, out: Any) -> None:
        found["norm"] = out

    net.norm.register_forward_hook(fill)
    net.inner.history.append("first")
    return net, found


def shape_of(part: Any) -> Any:
    """Return the contents of an object, down to what tracing has no reason to replace."""
    if isinstance(part, dict):
        return {key: shape_of(entry) for key, entry in part.items()}
    if isinstance(part, (list, tuple, set, deque)):
        return [type(part), *map(shape_of, part)]
    if isinstance(part, SimpleNamespace):
        return shape_of(vars(part))
    return part if isinstance(part, (int, str, type(None))) else id(part)


def states(net: nn.Module) -> dict[str, Any]:
    """Return the whole `__dict__` of every module."""
    return {name: shape_of(vars(module)) for name, module in net.named_modules()}


def left_as_it_was() -> None:
    net, found = made()
    before, values = states(net), {name: x.clone() for name, x in net.state_dict().items()}
    extractor = get_extractor_from_model(net, None, "pt", input_shape=(3, 8, 8))
    after = states(net)
    SAID["changed"] = [name for name in before if before[name] != after[name]]
    SAID["values"] = all(torch.equal(x, net.state_dict()[name]) for name, x in values.items())
    SAID["outside"] = [len(SEEN), len(LOG), len(found), net.training, net.inner.training]
    batch = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ARRAYS["found"] = extractor.extract_batch(batch, "norm")
    with torch.no_grad():
        net.eval()
        ARRAYS["expected"] = net(batch).numpy()
    SAID["used"] = [type(net.inner.act).__name__, net.inner.calls, len(LOG), list(SEEN)]


def left_after_a_refusal() -> None:
    class Branching(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.out = self.inner(x)
            return x if self.out.sum() > 0 else -x

    net = Branching()
    before = states(net)
    try:
        get_extractor_from_model(net, None, "pt", input_shape=(3, 8, 8))
    except ValueError as error:
        SAID["refused"] = type(error).__name__
    SAID["changed by a refusal"] = before != states(net)


class Noisy(nn.Module):
    """Draws from a generator of Python or numpy as it computes."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.noise = Drawing(draw)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(self.body(x))


class Drawing(nn.Module):
    """Adds what it draws."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.draw()


def draws_of_python() -> None:
    draws = {
        "random": random.random,
        "numpy.random": np.random.rand,
        "normal": lambda: float(np.random.normal()),  # noqa: NPY002 - as scripts do
    }
    before = random.getstate()
    for name, draw in draws.items():
        net = Noisy(draw).eval()
        call = partial(get_extractor_from_model, net, None, "pt", input_shape=(3, 8, 8))
        SAID[f"draws {name}"] = refusal(call)
    SAID["random as before"] = random.getstate() == before


if __name__ == "__main__":
    run(left_as_it_was, left_after_a_refusal, draws_of_python)
