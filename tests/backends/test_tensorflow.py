"""TensorFlow's own process: what it computes, what survives its end, and when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from support.checkout import SUPPORT
from support.closeness import assert_close
from support.sick_tensorflow import ILLEGAL_ADDRESS, INVALID_ARGUMENT, sick_python
from thingsvision_server.backends.base import NetworkError, OutOfDeviceMemoryError
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.tensorflow.model import (
    KerasNetwork,
    KerasWeights,
    TensorFlowModel,
    TensorFlowRuntime,
)
from thingsvision_server.errors import (
    BackendCrashedError,
    InvalidRequestError,
    InvalidWeightsError,
    NotExtractableError,
    PreconditionError,
    WeightsMismatchError,
)

MOBILENET = KerasNetwork(name="MobileNetV2")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `.keras` files, and what plain Keras says of them."""
    folder = tmp_path_factory.mktemp("networks")
    subprocess.run([sys.executable, SUPPORT / "keras_networks.py", folder], check=True)
    return folder


def archive(networks: Path, name: str) -> KerasNetwork:
    return KerasNetwork(archive=str(networks / f"{name}.keras"))


@pytest.fixture(scope="module")
def runtime(networks: Path) -> Iterator[TensorFlowRuntime]:
    """One process for all tests that need nothing special of it: a model keeps it alive."""
    running = TensorFlowRuntime(sys.executable)
    kept = running.load(archive(networks, "shared"), KerasWeights(), "cpu")
    yield running
    kept.close()
    assert running.pid is None


def run(model: TensorFlowModel, structure: Structure, inputs: Any, names: list[str]) -> list[Any]:
    return model.run([inputs], taps(structure, names)).rows


def pixels(count: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)


# ---------------------------------------------------------------- what it computes


def test_every_call_of_shared_and_nested_layers(runtime: TensorFlowRuntime, networks: Path) -> None:
    network = archive(networks, "shared")
    structure = runtime.describe(network).structure
    known = {module.name: module for module in structure.modules}
    assert list(known)[:4] == ["", "image", "start", "again"]
    assert [len(known[name].calls) for name in ("again", "inner", "inner/first")] == [3, 2, 2]
    assert (known["inner/first"].parent, known["inner/first"].depth) == ("inner", 2)
    assert "kernel_size=(1, 1)" in known["again"].attributes
    expected = np.load(networks / "shared.npz")
    names = [name for name in expected.files if name != "batch"]
    model = runtime.load(network, KerasWeights(), "cpu")
    try:
        rows = run(model, structure, expected["batch"], names)
        for name, found in zip(names, rows, strict=True):
            np.testing.assert_array_equal(found, expected[name])
        (every,) = run(model, structure, expected["batch"], ["again@all"])
        for call in range(3):
            np.testing.assert_array_equal(every[:, call], expected[f"again@t={call}"])
        (last,) = run(model, structure, expected["batch"], ["inner"])
        np.testing.assert_array_equal(last, expected["inner/second@t=1"])
    finally:
        model.close()


def test_what_cannot_be_extracted_says_why(runtime: TensorFlowRuntime, networks: Path) -> None:
    structure = runtime.describe(archive(networks, "odd")).structure
    (whole,) = (module.name for module in structure.modules if module.type == "Argmax")
    (flat,) = (module.name for module in structure.modules if module.type == "Sum")
    with pytest.raises(NotExtractableError, match="type int32, not floating point"):
        taps(structure, [whole])
    with pytest.raises(NotExtractableError, match="no row per image"):
        taps(structure, [flat])


def test_what_gives_a_dict_names_its_keys(runtime: TensorFlowRuntime, networks: Path) -> None:
    network = archive(networks, "named")
    structure = runtime.describe(network).structure
    with pytest.raises(NotExtractableError, match=r"a dict of (logits, highest|highest, logits);"):
        taps(structure, [""])
    with pytest.raises(NotExtractableError, match=r"'inner' .* a dict of (most, mean|mean, most);"):
        taps(structure, ["inner"])
    model = runtime.load(network, KerasWeights(), "cpu")
    try:
        batch = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
        most, mean = run(model, structure, batch, ["inner/most", "inner/mean"])
        np.testing.assert_array_equal(most, batch.max((1, 2)))
        assert_close(mean, batch.mean((1, 2)))
    finally:
        model.close()


def test_running_out_of_memory_in_a_batch_is_not_a_crash(
    runtime: TensorFlowRuntime, networks: Path
) -> None:
    network = archive(networks, "odd")
    structure = runtime.describe(network).structure
    model = runtime.load(network, KerasWeights(), "cpu")
    try:
        pid, batch = runtime.pid, np.zeros((1, 8, 8, 3), np.float32)
        with pytest.raises(OutOfDeviceMemoryError, match=r"OOM|memory"):
            run(model, structure, batch, ["tiny"])
        (mean,) = run(model, structure, batch, ["mean"])
        assert mean.shape == (1, 3)
        assert runtime.pid == pid
    finally:
        model.close()


def test_a_batch_leaves_no_open_file(runtime: TensorFlowRuntime) -> None:
    structure = runtime.describe(MOBILENET).structure
    model = runtime.load(MOBILENET, KerasWeights(seed=1), "cpu")
    try:
        child = psutil.Process(runtime.pid)
        run(model, structure, pixels(2), ["Conv1"])
        before = psutil.Process().num_fds(), child.num_fds()
        for _ in range(5):
            run(model, structure, pixels(2), ["Conv1"])
        assert (psutil.Process().num_fds(), child.num_fds()) == before
    finally:
        model.close()


# ---------------------------------------------------------------- when it starts and ends


def wait_until_busy(process: psutil.Process) -> None:
    before, deadline = process.cpu_times().user, time.monotonic() + 60
    while process.cpu_times().user < before + 0.1:
        assert time.monotonic() < deadline, "it does nothing"
        time.sleep(0.01)


def test_a_crash_fails_its_own_requests_alone_and_the_last_model_ends_it() -> None:
    runtime = TensorFlowRuntime(sys.executable)
    assert runtime.pid is None
    structure = runtime.describe(MOBILENET).structure
    model, other = (runtime.load(MOBILENET, KerasWeights(seed=seed), "cpu") for seed in (1, 2))
    (before,) = run(model, structure, pixels(2), ["Conv1"])
    first_pid = runtime.pid
    assert first_pid is not None
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(run, model, structure, pixels(64), [""])
        wait_until_busy(psutil.Process(first_pid))
        os.kill(first_pid, signal.SIGKILL)
        with pytest.raises(BackendCrashedError, match=r"by SIGKILL.*next request restarts it"):
            failing.result()
    (after,) = run(model, structure, pixels(2), ["Conv1"])
    np.testing.assert_array_equal(after, before)
    assert runtime.pid not in (None, first_pid)
    again = runtime.load(MOBILENET, KerasWeights(seed=1), "cpu")
    assert again.model_sha256 == model.model_sha256 != other.model_sha256
    (unlike,) = run(other, structure, pixels(2), ["Conv1"])
    assert not np.array_equal(unlike, before)
    child = psutil.Process(runtime.pid)
    again.close()
    model.close()
    assert child.is_running()
    other.close()
    assert not child.is_running()
    assert runtime.pid is None


def test_only_an_error_that_poisons_the_device_ends_it(networks: Path, tmp_path: Path) -> None:
    runtime = TensorFlowRuntime(sick_python(tmp_path))
    network, names = archive(networks, "shared"), ["start", "last"]
    structure = runtime.describe(network).structure
    model = runtime.load(network, KerasWeights(), "cpu")

    def ask(value: float) -> list[Any]:
        return run(model, structure, np.full((2, 8, 8, 3), value, np.float32), names)

    before, first_pid = ask(0.5), runtime.pid
    assert first_pid is not None
    with pytest.raises(NetworkError, match="invalid argument"):
        ask(INVALID_ARGUMENT)
    np.testing.assert_array_equal(ask(0.5)[1], before[1])
    assert runtime.pid == first_pid
    lost = "lost the device during this request, and was ended; the next request restarts it"
    with pytest.raises(BackendCrashedError, match=lost):
        ask(ILLEGAL_ADDRESS)
    assert not psutil.pid_exists(first_pid)
    for found, expected in zip(ask(0.5), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert runtime.pid not in (None, first_pid)
    model.close()
    assert runtime.pid is None


_SERVER = """
import os, signal, sys
from thingsvision_server.backends.tensorflow.model import *
runtime = TensorFlowRuntime(sys.executable)
model = runtime.load(KerasNetwork(name="MobileNetV2"), KerasWeights(), "cpu")
print(runtime.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_server() -> None:
    server = subprocess.run([sys.executable, "-c", _SERVER], capture_output=True, text=True)
    assert server.returncode == -signal.SIGKILL, server.stderr
    pid = int(server.stdout)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its server"
        time.sleep(0.05)


# ---------------------------------------------------------------- refusals


def test_a_missing_interpreter_is_named() -> None:
    with pytest.raises(
        PreconditionError, match=r"/nowhere/python: No such file.*--tensorflow-python"
    ):
        TensorFlowRuntime("/nowhere/python").describe(MOBILENET)


def test_an_environment_without_tensorflow_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(PreconditionError, match=rf"{bare}.*No module named.*Install tensorflow"):
        TensorFlowRuntime(str(bare)).describe(MOBILENET)


def test_a_seed_that_keras_does_not_take(runtime: TensorFlowRuntime) -> None:
    with pytest.raises(InvalidRequestError, match=r"at most 4294967295 .*got 4294967296"):
        runtime.load(MOBILENET, KerasWeights(seed=2**32), "cpu")


def test_files_that_are_not_weights_are_refused(runtime: TensorFlowRuntime, networks: Path) -> None:
    text = networks / "text"
    text.write_text("no weights")
    with pytest.raises(InvalidWeightsError, match=r"neither an HDF5 weights file nor a \.keras"):
        runtime.load(MOBILENET, KerasWeights(file=str(text)), "cpu")
    with pytest.raises(WeightsMismatchError, match=r"Layer 'Conv1' expected 1 variables"):
        runtime.load(MOBILENET, KerasWeights(file=str(networks / "shared.keras")), "cpu")
    import h5py

    with h5py.File(networks / "linked.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InvalidWeightsError, match="links to data elsewhere"):
        runtime.load(MOBILENET, KerasWeights(file=str(networks / "linked.h5")), "cpu")
