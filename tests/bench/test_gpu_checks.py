"""`scripts/gpu`: all its checks with a CPU in the GPU's place, and what it says of failures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from bench.gpu import bundle, overseer
from bench.gpu.checks import CHECKS, TESTS, Check, choose
from bench.gpu.lines import Lines

from support.checkout import CHECKOUT

PYTHON = {"PYTHON": sys.executable}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "scripts" / "gpu"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | PYTHON | variables
    )


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.timeout(900)
def test_everything_passes_on_a_cpu_that_stands_in(tmp_path: Path, photos: list[Path]) -> None:
    out = tmp_path / "lines.jsonl"
    done = run("--pretend", "--photos", str(photos[0].parent), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    machine, *rows, whole = lines_of(done.stdout)
    assert out.read_text() == done.stdout
    assert machine["check"] == "machine"
    assert machine["pretended"] is True
    assert machine["hardware"]
    assert whole["check"] == "all"
    assert whole["ok"]
    assert list(dict.fromkeys(row["check"] for row in rows)) == list(CHECKS)
    assert all(row["ok"] and row["row"] for row in rows)
    (pooled,) = (row for row in rows if row["row"].startswith("resnet18 layer2 tensors"))
    assert pooled["images_per_s"].keys() == {"limit", "local", "service"}
    assert min(pooled["images_per_s"].values()) > 0
    assert 0 < pooled["busy_share"] <= 1


def test_each_file_of_tests_is_a_check() -> None:
    files = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert files <= set(CHECKS)
    assert choose(["rdm", "m*"]) == ["measured_memory", "rdm"]
    with pytest.raises(SystemExit, match=r"--only must be of .*residency.*; got 'nothing'"):
        choose(["nothing"])


def test_a_device_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    done = run("--only", "rdm", "--device=cuda:7", "--photos", str(TESTS), "--out", str(out))
    assert done.returncode == 1
    failed, whole = lines_of(done.stdout)
    assert failed["check"] == "rdm"
    assert re.search("CUDA|NVIDIA", failed["error"])
    assert whole == {"check": "all", "ok": False, "failed": ["rdm"], "seconds": whole["seconds"]}


CHILD_SCRIPT = """
import json, os, sys, time

def say(**message):
    print(json.dumps(message), flush=True)

for name in json.loads(sys.argv[1])["names"]:
    say(begin=name)
    if name == "dies":
        sys.exit("its last words")
    if name == "hangs":
        time.sleep(600)
    say(check=name, row="one", ok=name != "fails")
    say(end=name, failed=name == "fails")
    if name == "fails":
        break
"""


def test_a_check_that_dies_or_hangs_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["first", "dies", "second", "hangs", "third", "fails", "last"]
    limits = {name: Check("", "", 1.0 if name == "hangs" else 60.0) for name in names}
    monkeypatch.setattr(overseer, "CHECKS", limits)
    order = {"pretend": False, "scratch": str(tmp_path)}
    command = [sys.executable, "-c", CHILD_SCRIPT]
    with Lines(tmp_path / "lines.jsonl") as lines:
        overseer.oversee(names, order, dict(os.environ), lines, command=command)
        assert lines.failed == {"dies", "hangs", "fails"}
    found = {line["check"]: line for line in lines_of(capsys.readouterr().out)}
    assert list(found) == names
    assert "ended with 1" in found["dies"]["error"]
    assert "its last words" in found["dies"]["error"]
    assert "took too long" in found["hangs"]["error"]
    assert all(found[name]["ok"] for name in ("first", "second", "third", "last"))


def test_what_is_missing_is_laid_out_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = tmp_path / "wheels", tmp_path / "site"
    (folder / "stubs").mkdir(parents=True)
    for name in ("never_heard_of", "numpy"):
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    assert bundle.unpack(folder, target) == ["never-heard-of"]
    assert sorted(path.name for path in target.iterdir()) == ["never_heard_of"]
    monkeypatch.setattr(bundle, "_COMPILED", tmp_path)
    with pytest.raises(bundle.BundleError, match="--fetch-wheels"):
        bundle.unpack(None, target)
    (folder / "contract.sha256").write_text("of another day")
    with pytest.raises(bundle.BundleError, match="another contract"):
        bundle.unpack(folder, target)
