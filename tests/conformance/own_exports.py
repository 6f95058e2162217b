"""Exports networks as the client does, and keeps what plain PyTorch's hooks see; run on its own.

A server in the same process has cuDNN's flags set in a way that `torch.export.export` can't read.
Arguments: a folder, then the names of networks, which are numbered there.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from support.own_architectures import ARCHITECTURES
from support.own_styles import SIDE, STYLES
from thingsvision_client.library.exporting import export_torch

IMAGE_COUNT = 3

_STYLE = "style/"


def names(most: int | None = None) -> list[str]:
    """Return the names of all networks, or of so many of each style."""
    styles = [f"{_STYLE}{key}/{i}" for key, made in STYLES.items() for i in range(len(made))[:most]]
    return styles if most else [*styles, *ARCHITECTURES]


def network(name: str) -> tuple[nn.Module, int]:
    """Return a network, and the height and width of its images, pixels."""
    torch.manual_seed(0)
    if name.startswith(_STYLE):
        style, _, number = name.removeprefix(_STYLE).rpartition("/")
        net, side = STYLES[style][int(number)](), SIDE
    else:
        net, side = ARCHITECTURES[name].make(), ARCHITECTURES[name].side
    for module in net.modules():  # so that a lost buffer shows
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
    return net.eval(), side


def seen_by_hooks(net: nn.Module, images: torch.Tensor) -> dict[str, list[Any]]:
    """Return, of each module that runs, each call's first tensor, or the class of its output.

    The values of named fields are there too, unless a module that runs has such a name.
    """
    seen: dict[str, list[Any]] = {}
    of_fields: dict[str, list[Any]] = {}
    handles = []
    for name, module in net.named_modules(remove_duplicate=False):
        if type(module) in (nn.DataParallel, torch._dynamo.OptimizedModule):
            continue

        def keep(_module: Any, _inputs: Any, output: Any, name: str = _plain(name)) -> None:
            tensor = next(_tensors(output), None)
            kept = type(output).__name__ if tensor is None else tensor.detach().clone()
            seen.setdefault(name, []).append(kept)
            for field, value in (_fields(output) or {}).items():
                for path, one in _of_field(f"{name}.{field}".lstrip("."), value):
                    of_fields.setdefault(path, []).append(one.detach().clone())

        handles.append(module.register_forward_hook(keep))
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        net(images)
    for handle in handles:
        handle.remove()
    return of_fields | seen


def _plain(name: str) -> str:
    """Return a name without what PyTorch's wrappers add."""
    return ".".join(one for one in name.split(".") if one not in ("module", "_orig_mod"))


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
        return
    named = _fields(output)
    values = output if isinstance(output, (tuple, list)) else []
    for value in values if named is None else named.values():
        yield from _tensors(value)


def _of_field(path: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a field: itself, or several with numbers."""
    if isinstance(value, torch.Tensor):
        return [(path, value)]
    return [(f"{path}.{place}", one) for place, one in enumerate(_tensors(value))]


def _fields(output: Any) -> dict[str, Any] | None:
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    return dict(vars(output)) if hasattr(output, "__dataclass_fields__") else None


def main() -> None:
    """Write NUMBER.pt2 and NUMBER.pt of each network."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    for number, name in enumerate(sys.argv[2:]):
        net, side = network(name)
        images = torch.randn(IMAGE_COUNT, 3, side, side)
        expected = seen_by_hooks(net, images)
        again, _ = network(name)  # a pass may have changed the buffers of the first
        try:
            export_torch(again, folder / f"{number}.pt2", input_shape=(3, side, side))
        except Exception as error:  # the comparing test shows it
            torch.save({"error": f"{type(error).__name__}: {error}"}, folder / f"{number}.pt")
            continue
        torch.save({"images": images, "seen": expected}, folder / f"{number}.pt")


if __name__ == "__main__":
    main()
