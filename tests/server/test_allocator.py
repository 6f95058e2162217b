"""On Linux the server keeps freed memory by default; features stay bit-identical."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thingsvision_server.allocator import use_expandable_segments
from thingsvision_server.backends.tensorflow.model import KerasNetwork, TensorFlowRuntime
from thingsvision_server.errors import PreconditionError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

PROGRAM = """
import ctypes, hashlib, sys
from thingsvision_server.allocator import keep_freed_memory, release_freed_memory

def resident_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "keep":
    keep_freed_memory()
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
images, kernels = torch.randn(8, 3, 64, 64), torch.randn(16, 3, 3, 3)
outputs = torch.conv2d(images, kernels)
before, block = resident_bytes(), torch.ones(64 * 2**20)
del block
kept = resident_bytes() - before
release_freed_memory()
print(hashlib.sha256(outputs.numpy()).hexdigest(), kept, resident_bytes() - before)
"""

MAIN = """
import sys, thingsvision_server as server
server.keep_freed_memory = lambda: print("kept")
sys.argv = ["thingsvision-server", "--device", "nonsense", *sys.argv[1:]]
server.main()
"""

SEGMENTS = """
import sys, thingsvision_server as server
def tell(environment):
    print("asked", "after" if "torch" in sys.modules else "before", "torch")
    raise SystemExit
server.use_expandable_segments = tell
server.keep_freed_memory = sys.exit
sys.argv = ["thingsvision-server", "--device", *sys.argv[1:]]
server.main()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_expandable_segments_are_asked_for_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.release", lambda: "6.8.0-generic")
    environment: dict[str, str] = {}
    use_expandable_segments(environment)
    assert environment == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        chosen = {name: "max_split_size_mb:64"}
        use_expandable_segments(chosen)
        assert chosen == {name: "max_split_size_mb:64"}
    monkeypatch.setattr("platform.release", lambda: "5.15-microsoft-standard-WSL2")
    refused: dict[str, str] = {}
    use_expandable_segments(refused)
    assert refused == {}


@pytest.mark.parametrize(("device", "asks"), [("cpu", False), ("cuda:7", True), ("auto", True)])
def test_only_a_server_for_a_gpu_asks_for_expandable_segments(device: str, *, asks: bool) -> None:
    told = run(SEGMENTS, device).stdout
    assert told == ("asked before torch\n" if asks else "")


def test_freed_memory_is_kept_until_released_and_no_bit_changes() -> None:
    digests = {}
    for how in ("keep", "default"):
        digests[how], kept, left = run(PROGRAM, how).stdout.split()
        assert (int(kept) > 200 * 2**20) == (how == "keep")
        assert int(left) < 50 * 2**20
    assert digests["keep"] == digests["default"]


@pytest.mark.parametrize(
    ("options", "printed"), [([], "kept\n"), (["--no-keep-freed-memory"], "")], ids=["on", "off"]
)
def test_the_option_decides(options: list[str], printed: str) -> None:
    done = run(MAIN, *options)
    assert "'nonsense'" in done.stderr
    assert done.stdout == printed


@pytest.mark.parametrize("keeps", [True, False])
def test_tensorflows_process_does_the_same(keeps: bool, tmp_path: Path) -> None:
    seen, python = tmp_path / "environment", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\n")
    python.chmod(0o755)
    runtime = TensorFlowRuntime(str(python), keep_freed_memory=keeps)
    with pytest.raises(PreconditionError, match="ended with code 0"):
        runtime.describe(KerasNetwork())
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()} - set(os.environ)
    assert ("MALLOC_ARENA_MAX" in names) == keeps
    assert "KERAS_BACKEND" in names
