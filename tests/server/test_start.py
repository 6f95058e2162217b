"""Mistakes in the settings end the server with a sentence, before any library is loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thingsvision_server.host import host_memory
from thingsvision_server.settings.options import Settings
from thingsvision_server.start.checks import find_doubts, find_mistakes

LIBRARIES = ("torch", "torchvision", "timm", "tensorflow", "onnx", "grpc", "numpy", "PIL")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def mistakes(**settings: object) -> list[str]:
    chosen = {"port": 0, "metrics_port": 0, "device": "cpu"} | settings
    return list(find_mistakes(Settings(**chosen)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flag", "word"),
    {
        "--weights-dir=/dev/null": "'/dev/null'",
        "--image-root=/nowhere": "'/nowhere'",
        "--spill-dir=/nowhere": "'/nowhere'",
        "--device-memory=1PiB": "1.0PiB",
        "--port=TAKEN": "another program",
        "--tokens=/nowhere": "/nowhere",
        "--tls-cert=/nowhere": "--tls-key",
        "--metrics-port=TAKEN": "another program",
    }.items(),
)
def test_it_is_told_in_one_sentence_before_any_library_is_loaded(
    flag: str, word: str, taken: int, tmp_path: Path
) -> None:
    flag = flag.replace("TAKEN", str(taken))
    quiet = {"THINGSVISION_WEIGHTS_DIR": str(tmp_path), "THINGSVISION_DEVICE": "cpu"}
    ports = {"THINGSVISION_PORT": "0", "THINGSVISION_METRICS_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "thingsvision_server", flag],
        env=os.environ | quiet | ports,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    (sentence,) = (line for line in lines if not line.startswith("import time"))
    assert done.returncode == 1
    assert sentence.startswith("thingsvision-server: ")
    assert flag.partition("=")[0] in sentence
    assert word in sentence
    assert "pydantic" in imported
    assert not imported.intersection(LIBRARIES)


def test_a_folder_of_weights_is_made_but_not_the_folders_above(tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert not mistakes(weights_dir=new)
    assert new.is_dir()
    (sentence,) = mistakes(weights_dir=tmp_path / "typo" / "weights")
    assert f"there is no folder '{tmp_path / 'typo'}'" in sentence
    file = tmp_path / "file"
    file.touch()
    for place, why in {file: "a file", file / "x": "below a file"}.items():
        (sentence,) = mistakes(weights_dir=place)
        assert sentence.endswith(why)


def test_each_folder_must_be_there_and_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for option in ("image_root", "spill_dir"):
        for place, why in {file: "is a file", tmp_path / "none": "does not exist"}.items():
            (sentence,) = mistakes(**{option: place})
            assert sentence.startswith(f"--{option.replace('_', '-')} must be a folder")
            assert sentence.endswith(why)
        assert not mistakes(**{option: tmp_path})


@pytest.mark.parametrize(
    "option", ["device_memory", "host_memory", "staging_memory", "decode_memory", "rdm_memory"]
)
def test_a_budget_above_the_memory_is_refused(option: str) -> None:
    total = host_memory().total_bytes
    (sentence,) = mistakes(**{option: total + 2**30})
    assert f"--{option.replace('_', '-')} must be at most" in sentence
    assert not mistakes(**{option: total // 2})


def test_budgets_together_are_refused_above_the_memory() -> None:
    most = host_memory().total_bytes * 2 // 3
    (sentence,) = mistakes(device_memory=most, staging_memory=most)
    assert sentence.startswith("--device-memory and --staging-memory together must be at most")
    # The models of a GPU don't use the host's memory.
    assert not mistakes(device="cuda:0", device_memory=2 * most, staging_memory=most)


def test_ports_and_hosts_that_cannot_be_listened_on_are_named(taken: int) -> None:
    (sentence,) = mistakes(port=taken)
    assert sentence.startswith(f"can't listen on 127.0.0.1:{taken}: another program does")
    assert "--port" in sentence
    (sentence,) = mistakes(metrics_port=taken)
    assert "--metrics-port (0: none, auto: a free port)" in sentence
    (sentence,) = mistakes(port=taken, metrics_port=taken)
    assert "must differ" in sentence
    (sentence,) = mistakes(host="192.0.2.1", insecure=True)  # reserved for documentation
    assert "no such address" in sentence
    (sentence,) = mistakes(host="no host", metrics_port=1, insecure=True)
    assert sentence.startswith("--host must be")
    for host in ("localhost", "0.0.0.0", "::1"):
        assert not mistakes(host=host, insecure=True) or host == "::1"


def test_files_of_a_certificate_are_tried(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    (sentence,) = mistakes(tls_cert=file, tls_key=file)
    assert sentence.startswith(f"--tls-cert must be a PEM file, got {str(file)!r}: No such file")
    file.write_text("nothing")
    file.chmod(0o600)
    (sentence,) = mistakes(tls_cert=file, tls_key=file)
    assert "must be a PEM certificate and its private key" in sentence


def test_doubts_are_warnings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THINGSVISION_NICE_DAY", "1")
    monkeypatch.setenv("THINGSVISION_PORT", "tcp://10.0.0.1:50051")
    unknown, link = find_doubts(Settings(weights_dir=tmp_path))
    assert "THINGSVISION_NICE_DAY" in unknown
    assert "THINGSVISION_PORT was set by Kubernetes" in link
