"""Networks with seeded random weights, in files that every column reads.

As a script it writes one: `python -m bench.networks torchvision/alexnet FOLDER`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .cases import TAG
from .process import PROJECT, command, environment

SEED = 0
SEEDED = f"random:{SEED}"
"""In the place of a file of weights: the values that PyTorch draws with that seed."""

EARLY_INPUT, EARLY_OUTPUT = (3, 55, 55), (64, 55, 55)
"""Shapes per image of the network `early`, whose activations are as large as AlexNet's first."""

EARLY, EARLY_MODULE = "early", "conv"

IMAGE_INPUT = (3, 224, 224)
"""Shape per image of torchvision's networks."""


@dataclass(frozen=True)
class Weights:
    """A network's files, relative to a folder that can serve as a server's weights folder."""

    model: str
    """The service's name for it; empty for an upload."""
    file: str
    """The file that the server reads."""
    arrays: str = ""
    """The file that other columns read, if it is a different one."""


def weights_of(source: str, network: str) -> Weights:
    """Return the files of a network's weights."""
    return _FILES[source](network)


_FILES: Mapping[str, Callable[[str], Weights]] = {
    "torchvision": lambda name: Weights(
        f"torchvision/{name}@{TAG}", f"torchvision/{name}.{TAG}.pth"
    ),
    "keras": lambda name: Weights(
        f"keras/{name}@imagenet", f"keras/{name}.imagenet.weights.h5", f"keras/{name}.npz"
    ),
    "own": lambda name: Weights("", f"{name}.pt2"),
}


def weights_folder() -> Path:
    """Return the folder with the networks' weights, which is kept between runs."""
    versions = f"torch-{version('torch')}-keras-{version('keras')}"
    return PROJECT / ".cache" / "bench" / "weights" / versions


def make_weights(source: str, network: str, folder: Path) -> Weights:
    """Write a network's weights unless they exist; a child process imports the framework."""
    weights = weights_of(source, network)
    if not (folder / weights.file).is_file():
        # A partly written file must never be mistaken for weights.
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        make = [*command("bench.networks"), f"{source}/{network}", str(unfinished)]
        done = subprocess.run(make, cwd=PROJECT, env=environment(), stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"can't make weights of {network}: {done.stderr.decode()[-2000:]}")
        for file in filter(None, (weights.arrays, weights.file)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / file).rename(folder / file)
        shutil.rmtree(unfinished)
    return weights


def torch_network(name: str, weights: str) -> Any:
    """Return a torchvision network with weights from a file, or SEEDED, in evaluation mode."""
    import torch
    import torchvision

    torch.manual_seed(SEED)
    network = torchvision.models.get_model(name, weights=None)
    if weights != SEEDED:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def torch_transform(name: str) -> Any:
    """Return the preprocessing of torchvision's own weights."""
    import torchvision

    return torchvision.models.get_model_weights(name)[TAG].transforms()


def keras_network(name: str, weights: str) -> Any:
    """Return a network of keras.applications with weights from a file of arrays."""
    import keras
    import numpy as np

    network = getattr(keras.applications, name)(weights=None)
    with np.load(weights) as arrays:
        network.set_weights([arrays[key] for key in arrays.files])
    return network


def _write_torch(name: str, weights: Weights, folder: Path) -> None:
    import torch
    import torchvision

    torch.manual_seed(SEED)
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), folder / weights.file)


def _write_keras(name: str, weights: Weights, folder: Path) -> None:
    import keras
    import numpy as np

    keras.utils.set_random_seed(SEED)
    network = getattr(keras.applications, name)(weights=None)
    np.savez(folder / weights.arrays, *network.get_weights())
    network.save_weights(folder / weights.file)


def _write_program(name: str, weights: Weights, folder: Path) -> None:
    """Write a network as users export theirs: `early`, or a network of torchvision."""
    import torch

    network = _early() if name == EARLY else torch_network(name, SEEDED)
    images = torch.zeros(2, *(EARLY_INPUT if name == EARLY else IMAGE_INPUT))
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (images,), dynamic_shapes=shapes)
    torch.export.save(program, folder / weights.file)


def _early() -> Any:
    """Return a network whose large activations cost almost nothing: one 1 x 1 convolution."""
    import torch

    torch.manual_seed(SEED)
    network = torch.nn.Sequential()
    network.add_module(EARLY_MODULE, torch.nn.Conv2d(EARLY_INPUT[0], EARLY_OUTPUT[0], 1))
    return network


_WRITERS: Mapping[str, Callable[[str, Weights, Path], None]] = {
    "torchvision": _write_torch,
    "keras": _write_keras,
    "own": _write_program,
}


def main() -> None:
    """Write the weights of the network named on the command line."""
    (source, _, name), folder = sys.argv[1].partition("/"), Path(sys.argv[2])
    weights = weights_of(source, name)
    (folder / weights.file).parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[source](name, weights, folder)


if __name__ == "__main__":
    main()
