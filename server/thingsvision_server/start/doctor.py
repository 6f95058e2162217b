"""The command `thingsvision-server doctor`: checks what a server with these options would meet."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..access.certificate_dates import end_of_certificate
from ..backends.children.guests import describe_isolation, isolation
from ..backends.children.sandbox import WHAT
from ..errors import PreconditionError
from ..host import core_count, host_memory, use_share
from ..settings import Settings
from ..settings.reading import parse_settings
from ..settings.sentences import size_of
from ..version import server_version
from .checks import check_ports, find_doubts, find_mistakes

_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "onnxruntime", "grpcio", "pyarrow")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_FREE_BYTES = 10 * 2**30
"""With less, the weights of a few large models fill the disk."""
_IMPORT_SECONDS = 180.0
_HELP = """\
usage: thingsvision-server doctor [--json] [options of thingsvision-server]

Check what a server with these options would meet: options, versions, ports, memory, folder of
weights, device, TensorFlow, isolation of uploaded programs, certificates. The exit code is 0 if a
server would start, otherwise 1."""


@dataclass(frozen=True)
class Finding:
    """What a check found: `ok`, `note` if something may not be as wanted, or `FAILED`."""

    name: str
    state: str
    text: str


def main(arguments: list[str]) -> None:
    """Print what each check finds, and exit with 1 if one failed."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP)
        return
    as_json = "--json" in arguments
    findings = []
    for finding in _examine([one for one in arguments if one != "--json"]):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:7}{finding.name:12}{finding.text}", flush=True)
    if as_json:
        print(json.dumps([asdict(one) for one in findings], indent=2))
    if any(one.state == "FAILED" for one in findings):
        sys.exit(1)


def _examine(arguments: list[str]) -> Iterator[Finding]:
    yield Finding("versions", "ok", _versions())
    try:
        settings = parse_settings(arguments)
    except ValueError as error:
        yield from (Finding("options", "FAILED", line) for line in str(error).splitlines())
        return
    if settings.node_share is not None:
        use_share(settings.node_share)
    yield from _options(settings)
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _ports,
        _memory,
        _weights,
        _device,
        _tensorflow,
        _isolation,
        _certificates,
    ]
    for check in checks:
        yield from check(settings)


def _versions() -> str:
    named = [f"thingsvision-server {server_version()}", f"Python {platform.python_version()}"]
    return ", ".join(named + [f"{name} {_version(name)}" for name in _LIBRARIES])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _options(settings: Settings) -> Iterator[Finding]:
    # A running server of the same options has their ports.
    free = settings.model_copy(update={"port": 0, "metrics_port": 0})
    mistakes = list(find_mistakes(free))
    yield from (Finding("options", "FAILED", one) for one in mistakes)
    yield from (Finding("options", "note", one) for one in find_doubts(settings))
    if not mistakes:
        yield Finding("options", "ok", f"from {settings.config or 'flags and the environment'}")


def _ports(settings: Settings) -> Iterator[Finding]:
    taken = list(check_ports(settings))
    yield from (Finding("ports", "note", one) for one in taken)
    if not taken:
        yield Finding("ports", "ok", f"{settings.port} and {settings.metrics_port} are free")


def _memory(_settings: Settings) -> Iterator[Finding]:
    memory = host_memory()
    text = (
        f"{size_of(memory.total_bytes)}, of which {size_of(memory.available_bytes)} are free; "
        f"{core_count()} cores"
    )
    yield Finding("memory", "ok", text)


def _certificates(settings: Settings) -> Iterator[Finding]:
    for option in ("tls_cert", "client_ca"):
        path: Path | None = getattr(settings, option)
        if path is None or not path.expanduser().is_file():
            continue  # a missing file is a mistake in the options
        try:
            left = end_of_certificate(_first_certificate(path.expanduser())) - datetime.now(UTC)
        except (OSError, ValueError) as error:
            yield Finding("access", "FAILED", f"{path}: {error}")
            continue
        state = "FAILED" if left.total_seconds() <= 0 else "note" if left.days < 14 else "ok"
        text = f"{path} is valid for {left.days} more days" if left.days >= 0 else f"{path} expired"
        yield Finding("access", state, text)


def _first_certificate(path: Path) -> bytes:
    """Return the first certificate of a PEM file, which is the one that a server shows."""
    found = _CERTIFICATE.search(path.read_bytes())
    return found[0] if found else b""


def _weights(settings: Settings) -> Iterator[Finding]:
    folder = settings.weights_dir.expanduser()
    if not folder.is_dir():
        return  # a mistake in the options
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {size_of(free)} of disk are free"
    yield Finding("weights", "ok" if free >= _FREE_BYTES else "note", text)
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & stat.S_IWOTH:
        text = f"every user of this machine can write into {folder}: chmod o-w {folder}"
        yield Finding("weights", "note", text)


def _device(settings: Settings) -> Iterator[Finding]:
    from ..backends.torch.device import (
        check_device,
        default_device,
        device_answers,
        device_memory_bytes,
        device_memory_used_bytes,
    )
    from ..backends.torch.hardware import describe_hardware

    try:
        device = default_device() if settings.device == "auto" else check_device(settings.device)
    except PreconditionError as error:
        yield Finding("device", "FAILED", str(error))
        return
    text = f"{device}: {describe_hardware(device)}"
    if device == "cpu":
        yield Finding("device", "ok", text)
        return
    total, used = device_memory_bytes(device), device_memory_used_bytes(device)
    text += f", {size_of(total)}, of which {size_of(total - used)} are free"
    yield Finding("device", "ok" if device_answers(device) else "FAILED", text)


def _tensorflow(settings: Settings) -> Iterator[Finding]:
    """Import TensorFlow in its own environment, as the server's child process does."""
    python = settings.tensorflow_python
    script = "import tensorflow; print(tensorflow.__version__)"
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own interpreter
            [python, "-c", script],
            capture_output=True,
            text=True,
            env=quiet,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("TensorFlow", "note", f"Keras models can't be loaded: {error}")
        return
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        yield Finding("TensorFlow", "note", f"Keras models can't be loaded: {python}: {last[0]}")
        return
    yield Finding("TensorFlow", "ok", f"{done.stdout.strip()}, in {Path(python)}")


def _isolation(_settings: Settings) -> Iterator[Finding]:
    """Say what uploaded programs are denied here: what is missing depends on the system."""
    is_whole = len(isolation()) == len(WHAT)
    yield Finding("isolation", "ok" if is_whole else "note", describe_isolation())
