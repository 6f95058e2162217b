"""The folder that a machine without network needs: wheels, stubs, photographs and weights.

`fetch` fills it where there is a network, and `unpack` lays out what is missing where the checks
run. Needs nothing but the standard library, as nothing is installed there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tomllib

from ..photographs import copy_photographs, photograph_folder, shared_data
from ..process import PROJECT

WHEELS = (
    "ftfy",
    "googleapis-common-protos",
    "grpcio-health-checking",
    "grpcio-reflection",
    "open-clip-torch",
    "prometheus-client",
    "psutil",
    "pydantic-settings",
    "python-dotenv",
    "regex",
    "structlog",
    "threadpoolctl",
    "tqdm",
    "wcwidth",
    "zlib-ng",
)
"""What server and client import beside torch, torchvision, timm, numpy, grpcio, protobuf, pyarrow,
pydantic and typer, each with what it needs itself."""

MAX_BYTES = 60 * 2**20
PHOTOGRAPHS, WEIGHTS, STUBS = "photographs", "weights", "stubs"
_CONTRACT = "contract.sha256"
_PHOTOGRAPH_COUNT = 24
_TRAINED = "squeezenet1_0-imagenet.pth", "torchvision/squeezenet1_0.IMAGENET1K_V1.pth"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
_PROTO = PROJECT / "proto"
_COMPILED = _PROTO / "thingsvision_proto" / "v1"


class BundleError(RuntimeError):
    """The folder can't be filled or used; the message says what to do."""


def fetch(folder: Path, python_version: str) -> int:
    """Fill a folder for machines with that version of Python, and return its size, bytes.

    Raises BundleError if it gets too large, or if pip fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _download(folder, python_version)
    if not (_COMPILED / "thingsvision_pb2.py").is_file():
        raise BundleError("compile the stubs first: scripts/environment dev")
    shutil.copytree(_COMPILED, folder / STUBS, ignore=_NOT_CODE, dirs_exist_ok=True)
    (folder / _CONTRACT).write_text(_contract_sha256())
    copy_photographs(photograph_folder(None), _PHOTOGRAPH_COUNT, folder / PHOTOGRAPHS)
    _copy_trained_weights(folder / WEIGHTS)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        raise BundleError(f"{folder} must have at most {MAX_BYTES:,} bytes, got {size:,}")
    return size


def unpack(folder: Path | None, target: Path) -> list[str]:
    """Lay out in `target` what this Python lacks; return the distributions that were missing.

    Raises BundleError if the folder was filled for another contract.
    """
    missing = []
    if folder is not None:
        wheels = sorted(folder.glob("*.whl"))
        missing = [_distribution(wheel) for wheel in wheels if not _is_installed(wheel)]
        for wheel in wheels:
            if _distribution(wheel) in missing:
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(target)
    if not (_COMPILED / "thingsvision_pb2.py").is_file():
        _lay_out_stubs(folder, target)
    _describe_project(target)
    return missing


_NOT_CODE = shutil.ignore_patterns("__pycache__")


def _download(folder: Path, python_version: str) -> None:
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    command: Sequence[str] = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--python-version", python_version, *platforms, "--dest", str(folder), *WHEELS),
    ]
    for old in folder.glob("*.whl"):
        old.unlink()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise BundleError(f"pip can't download the wheels: {done.stderr.strip()}")


def _copy_trained_weights(folder: Path) -> None:
    """Copy the weights of a small trained network, where the reference data is installed."""
    source, target = _TRAINED
    if (shared_data() / source).is_file():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data() / source, folder / target)


def _lay_out_stubs(folder: Path | None, target: Path) -> None:
    if folder is None or not (folder / _CONTRACT).is_file():
        raise BundleError(
            "this checkout has no compiled stubs: fill a folder elsewhere with `scripts/gpu "
            "--fetch-wheels DIR`, and name it here with `--wheels DIR`"
        )
    if (folder / _CONTRACT).read_text() != _contract_sha256():
        raise BundleError(f"{folder} is of another contract: fill it again from this checkout")
    package = target / "thingsvision_proto"
    shutil.copytree(_PROTO / package.name, package, ignore=_NOT_CODE, dirs_exist_ok=True)
    shutil.copytree(folder / STUBS, package / "v1", dirs_exist_ok=True)


def _describe_project(target: Path) -> None:
    """Give the project a version, which provenance names, if it is not installed."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    name, number = project["name"], project["version"]
    try:
        version(name)
    except PackageNotFoundError:
        described = target / f"{name.replace('-', '_')}-{number}.dist-info"
        described.mkdir(parents=True)
        lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        (described / "METADATA").write_text(lines)


def _contract_sha256() -> str:
    digest = hashlib.sha256()
    for path in sorted((_PROTO / "thingsvision").rglob("*.proto")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _distribution(wheel: Path) -> str:
    return wheel.name.partition("-")[0].replace("_", "-")


def _is_installed(wheel: Path) -> bool:
    try:
        version(_distribution(wheel))
    except PackageNotFoundError:
        return False
    return True
