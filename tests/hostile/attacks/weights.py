"""Files of weights that announce, nest or share more than any network has."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torchvision import models

from thingsvision_client import Client
from thingsvision_client.errors import InvalidWeightsError, NotResidentError, WeightsMismatchError

from .registry import Target, attack


def _header(size: int, text: bytes, content: bytes = b"") -> bytes:
    return struct.pack("<Q", size) + text + content


def _safetensors(entries: Mapping[str, Any], content: bytes = bytes(8)) -> bytes:
    text = json.dumps(entries).encode()
    return _header(len(text), text, content)


def _entry(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def _many_empty() -> bytes:
    return _safetensors({f"w{number}": _entry([0], 0, 0) for number in range(250_000)}, b"")


class _Rebuilt:
    """A tensor of any shape and strides over two values, as a file has it."""

    def __init__(self, shape: Any, strides: Any, offset: Any = 0) -> None:
        self._view = (offset, shape, strides)

    def __reduce__(self) -> Any:
        storage = torch.ones(2)._typed_storage()
        arguments = (storage, *self._view, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _archive(pickled: bytes, *, is_packed: bool = False, **members: bytes) -> bytes:
    file = io.BytesIO()
    compression = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", compression) as written:
        written.writestr("a/data.pkl", pickled)
        written.writestr("a/byteorder", b"little")
        written.writestr("a/version", b"3\n")
        for name, content in members.items():
            written.writestr(f"a/data/{name}", content)
    return file.getvalue()


def _deep() -> bytes:
    return b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b"."


def _wide() -> bytes:
    """Write a list of lists that doubles 60 times: 2^60 entries for whoever walks it."""
    return b"\x80\x02]" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(60)) + b"."


FILES: Mapping[str, Callable[[], bytes]] = {
    "endless.safetensors": lambda: _header(2**63, b"{}"),
    "long.safetensors": lambda: _header(99_000_000, b"{" + b" " * 98_999_998 + b"}"),
    "huge.safetensors": lambda: _safetensors({"w": _entry([10**6, 10**6], 0, 8)}),
    "overflow.safetensors": lambda: _safetensors({"w": _entry([2**62, 4], 0, 0)}, b""),
    "many.safetensors": _many_empty,
    "overlapping.safetensors": lambda: _safetensors(
        {f"w{number}": _entry([2], 0, 8) for number in range(1000)}
    ),
    "deep.pth": lambda: _archive(_deep()),
    "wide.pth": lambda: _archive(_wide()),
    "long-ints.pth": lambda: _archive(b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"."),
    "strides.pth": lambda: _saved({"w": _Rebuilt((10**6,), (1,))}),
    "start.pth": lambda: _saved({"w": _Rebuilt((1,), (1,), 10**15)}),
    "negative.pth": lambda: _saved({"w": _Rebuilt((2,), (-1,), 1)}),
    "spread.pth": lambda: _saved({"w": torch.ones(1).expand(10**6, 10**6)}),
    "spread-in-many.pth": lambda: _saved(
        {str(number): torch.ones(1).expand(10**7) for number in range(100)}
    ),
    "objects.pth": lambda: _saved({"w": np.array([{}], dtype=object)}),
    "packed.pth": lambda: _archive(b"\x80\x02}.", is_packed=True, **{"0": bytes(300_000_000)}),
    "name.pth": lambda: _saved({"w" * 20_000_000: torch.ones(1)}),
}


@attack()
def weights_that_no_network_has(target: Target) -> None:
    """Upload headers of 2^63 bytes, 2^60 lists, tensors of 10^12 values: each is refused."""
    for name, content in FILES.items():
        path = target.folder / name
        path.write_bytes(content())
        with Client(target.address) as client, pytest.raises(InvalidWeightsError):
            client.upload_weights(path)
        path.unlink()


@attack()
def weights_that_fit_no_network(target: Target) -> None:
    """Load weights with tensors of odd shapes and layouts: refused; plain ones are loaded."""
    own = models.squeezenet1_1().state_dict()
    odd: Mapping[str, Any] = {
        "shape": torch.ones(1).expand(10**7),
        "sparse": torch.ones(64, 3, 3, 3).to_sparse(),
        "none": torch.ones(64, 3, 3, 3, device="meta"),
        "empty": torch.ones(0, 3),
    }
    with Client(target.address) as client:
        for kind, tensor in odd.items():
            path = target.folder / f"{kind}.pth"
            torch.save({**own, "features.0.weight": tensor}, path)
            sha256 = client.upload_weights(path)
            with pytest.raises((InvalidWeightsError, WeightsMismatchError)):
                client.load(f"torchvision/squeezenet1_1@sha256:{sha256}")
            client.delete_upload(sha256)
        path = target.folder / "own.safetensors"
        path.write_bytes(save(own))
        sha256 = client.upload_weights(path)
        client.load(f"torchvision/squeezenet1_1@sha256:{sha256}")
        with suppress(NotResidentError):  # a tight budget has evicted it
            client.unload(f"torchvision/squeezenet1_1@sha256:{sha256}")
        client.delete_upload(sha256)
