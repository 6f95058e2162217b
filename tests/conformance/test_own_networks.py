"""Networks of users' own: what every called module returns is what plain PyTorch's hooks see.

An ordinary run takes one network of each style and a sample of the architectures; with `--all`,
all of them, and docs/own-networks.md is written.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from own_exports import IMAGE_COUNT, names
from own_table import Compared, add_to_table

from support.checkout import CHECKOUT
from support.closeness import assert_close
from support.serving import open_sources
from thingsvision_server.backends.base import RunnableModel
from thingsvision_server.backends.modules import ModuleInfo, Structure
from thingsvision_server.backends.taps import taps
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement

SAMPLED = ("timm/resnet10t", "transformers/ViTModel")
"""Architectures of an ordinary run."""

_AT_ONCE = 8
"""Architectures that one process exports."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "group" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all")
        chosen = names() if everything else [*names(most=1), *SAMPLED]
        size = _AT_ONCE if everything else len(chosen)
        groups = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        metafunc.parametrize("group", groups, ids=[f"{one[0]} ..." for one in groups])


# What libraries warn of their own models is theirs.
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(3600)
def test_every_called_module_is_what_a_hook_sees(
    sources: Sources, group: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _export(tmp_path, group)
    failures: dict[str, str] = {}
    for number, name in enumerate(group):
        try:
            compared = _compare(sources, name, tmp_path / f"{number}")
        except Exception as error:  # all networks of a group are told
            failures[name] = f"{type(error).__name__}: {error}"[:1500]
            continue
        print(f"{name}: {compared.equal} of {compared.modules} modules")
        if request.config.getoption("--all"):
            add_to_table(compared)
        for ending in (".pt", ".pt2"):
            (tmp_path / f"{number}{ending}").unlink(missing_ok=True)
    assert not failures, "\n\n".join(f"{name}: {why}" for name, why in failures.items())


def _export(folder: Path, group: list[str]) -> None:
    script = Path(__file__).with_name("own_exports.py")
    packages = [str(CHECKOUT / "tests"), *sys.path]
    subprocess.run(
        [sys.executable, script, folder, *group],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(packages), "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=3000,
    )


def _compare(sources: Sources, name: str, stem: Path) -> Compared:
    """Upload an exported network, and compare every module; raise AssertionError."""
    kept = torch.load(stem.with_suffix(".pt"))
    assert "error" not in kept, kept["error"]
    folder = sources._context.weights.uploads
    sha256 = _upload(stem.with_suffix(".pt2"), folder)
    source = sources["own"]
    key = source.resolve(ModelKey("own", sha256, Pretrained()))
    structure = source.structure(key)
    seen: dict[str, list[Any]] = kept["seen"]
    _check_outline(structure, seen)
    model = source.load(key, "cpu")
    equal = _check_values(model, structure, kept["images"], seen)
    model.close()  # it has a process of its own
    (folder / sha256).unlink()
    called = sum(bool(module.calls) for module in structure.modules)
    return Compared(name, len(structure.modules), called, equal)


def _upload(path: Path, folder: Path) -> str:
    content = path.read_bytes()
    announced = Announcement(hashlib.sha256(content).hexdigest(), len(content), "net.pt2")
    with UploadStore(folder, 10**10, 10**11).begin(announced) as upload:
        upload.write(content)
        upload.finish()
    return announced.sha256


def _check_outline(structure: Structure, seen: dict[str, list[Any]]) -> None:
    """Check that modules are extractable if and only if hooks see rows of floats."""
    listed = {module.name: module for module in structure.modules}
    assert set(seen) <= set(listed), set(seen) - set(listed)
    for name, outputs in seen.items():
        module, last = listed[name], outputs[-1]
        if isinstance(last, str):
            assert last in module.reason, (name, module.reason)
            continue
        assert len(module.calls) == len(outputs), name
        has_rows = last.is_floating_point() and last.shape[:1] == (IMAGE_COUNT,)
        assert has_rows != bool(module.reason), (name, module.reason, tuple(last.shape))
    for module in structure.modules:
        if module.name not in seen and ".output." not in f".{module.name}":
            assert "never called" in module.reason or "without calling" in module.reason, module


def _check_values(
    model: RunnableModel, structure: Structure, images: torch.Tensor, seen: dict[str, list[Any]]
) -> int:
    found = dict(_taken(structure, seen))
    rows = model.run([images.numpy()], taps(structure, list(found))).rows
    for name, got in zip(found, rows, strict=True):
        expected = found[name]
        if torch.isfinite(expected).all():
            assert_close(got, expected.float().numpy(), what=name)
    return len({name.partition("@")[0] for name in found})


def _taken(structure: Structure, seen: dict[str, list[Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the name of each output that can be taken, and the value to expect."""
    for module in structure.modules:
        outputs = seen.get(module.name, [])
        if module.reason or not outputs:
            continue
        yield module.name, outputs[-1]
        if len(outputs) > 1 and _is_alike(module):
            yield f"{module.name}@all", torch.stack(outputs, 1)


def _is_alike(module: ModuleInfo) -> bool:
    return len({(call.shape, call.reason) for call in module.calls}) == 1
