"""Things that a person leaves on a server of a lab: weights, networks, PCAs and images."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from support.lab import Lab
from support.own_files import onnx_file
from support.own_networks import SIZE, network
from support.serving import TestServer
from support.tiny_pcas import MODEL, MODULE, SMALL
from thingsvision_client import Client
from thingsvision_server.access.scopes import Scope

WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD, Scope.CONTROL)
GROUP = "of-the-matrix"
IMAGE_SIZE = 320


@dataclass(frozen=True)
class Thing:
    """Something that its owner left, and perhaps shared."""

    sha256: str
    size_bytes: int

    def missing(self) -> Thing:
        """Return another that is not there."""
        return Thing(hashlib.sha256(self.sha256.encode()).hexdigest(), self.size_bytes)


@dataclass(frozen=True)
class People:
    """Clients of people: an owner, a member of the owner's group, a stranger, and an admin."""

    tokens: Mapping[str, str]
    owner: Client
    folder: Path
    photos: list[Path]
    _numbers: Iterator[int]

    def leave(self, kind: str, *, shared: bool) -> Thing:
        """Leave a new thing of a kind as the owner."""
        thing = _MAKERS[kind](self, next(self._numbers))
        if shared:
            self.owner.share(thing.sha256)
        return thing


@contextmanager
def people_of(lab: Lab, server: TestServer, folder: Path, photos: list[Path]) -> Iterator[People]:
    """Let the people of the matrix into a server."""
    scopes = {"owner": WORK, "sharee": WORK, "stranger": WORK, "admin": (Scope.ADMIN,)}
    groups = {"owner": GROUP, "sharee": GROUP}
    tokens = {
        name: lab.add_token(f"the-{name}", *scopes[name], group=groups.get(name, ""))
        for name in scopes
    }
    server.running.access.look()
    with Client(f"grpcs://{server.address}", token=tokens["owner"], ca=lab.ca) as owner:
        yield People(tokens, owner, folder, photos, itertools.count(1))


def _leave_weights(people: People, number: int) -> Thing:
    torch.manual_seed(number)
    path = people.folder / f"{number}.safetensors"
    save_file(squeezenet1_1().state_dict(), path)
    return Thing(people.owner.upload_weights(path), path.stat().st_size)


def _leave_network(people: People, number: int) -> Thing:
    path = onnx_file(network(number), people.folder / f"{number}.onnx")
    declared = {"resize_pixels": [SIZE, SIZE]}
    return Thing(people.owner.upload_model(path, declared).name, path.stat().st_size)


def _leave_pca(people: People, number: int) -> Thing:
    pca = people.owner.fit_pca(
        MODEL, people.photos[:3], MODULE,
        components=1, name=f"matrix {number}", preprocessing=SMALL,
    )  # fmt: skip
    return Thing(pca.sha256, pca.size_bytes)


def _leave_image(people: People, number: int) -> Thing:
    pixels = np.random.default_rng(number).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "png")  # noise: large enough to be worth keeping
    people.owner.extract(MODEL, [("noise", content.getvalue())], MODULE, preprocessing=SMALL)
    return Thing(hashlib.sha256(content.getvalue()).hexdigest(), len(content.getvalue()))


_MAKERS: Mapping[str, Callable[[People, int], Thing]] = {
    "weights": _leave_weights,
    "network": _leave_network,
    "PCA": _leave_pca,
    "image": _leave_image,
}
