"""deploy/slurm/ on a real Slurm of one node: what its scripts start is one service."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from support.checkout import CHECKOUT
from support.lab import Lab
from support.one_node_slurm import OneNodeSlurm, one_node_slurm
from support.server_process import free_port
from thingsvision_client import Client
from thingsvision_client.errors import UnauthenticatedError, UnavailableError
from thingsvision_server.access.scopes import Scope

SCRIPTS = CHECKOUT / "deploy" / "slurm"
MODELS = [f"torchvision/squeezenet1_1@random:{seed}" for seed in range(4)]
MODULE = "features.0"
SLOW_SECONDS = 120.0


class Caller:
    """Somebody who extracts features all the time, of one model after the other."""

    def __init__(self, client: Client, photos: list[Path]) -> None:
        self.call_count = 0
        self.failures: list[Exception] = []
        self._client, self._photos = client, photos
        self._ended = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            model = MODELS[self.call_count % len(MODELS)]
            try:
                rows = self._client.extract(model, self._photos[:2], MODULE).features[MODULE]
                assert len(rows) == 2
            except Exception as error:
                self.failures.append(error)
            self.call_count += 1

    @contextmanager
    def calling(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()
        assert self.call_count
        assert self.failures == []


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneNodeSlurm]:
    folder = Path(tempfile.mkdtemp(prefix="tv"))
    variables = {
        "TV_HOME": folder / "home",
        "TV_BIN": Path(sys.executable).parent,
        "TV_GATEWAY_HOST": "localhost",
        "TV_GATEWAY_PORT": free_port(),
        "TV_GATEWAY_PAGE": free_port(),
        "THINGSVISION_ANNOUNCE_ADDRESS": "127.0.0.1",
        "THINGSVISION_LAME_DUCK_SECONDS": 3,
        "THINGSVISION_ALLOW_DOWNLOAD": "false",
        "THINGSVISION_WARM_GUESTS": "false",
        "THINGSVISION_DEVICE": "cpu",
        "THINGSVISION_DEVICE_MEMORY": "1GiB",
        "OMP_NUM_THREADS": 1,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    try:
        with one_node_slurm(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder)


def test_jobs_of_slurm_are_one_service(slurm: OneNodeSlurm, photos: list[Path]) -> None:
    home = slurm.folder / "home"
    servers = slurm.submit("--array=0-1", SCRIPTS / "servers.sbatch")
    gateway = slurm.submit(SCRIPTS / "gateway.sbatch")
    first, second = f"{servers}_0", f"{servers}_1"
    with connect(slurm) as client:
        # Each has a device of its own, and is started again if it dies.
        (killed,) = server_processes(slurm, first)
        (other,) = server_processes(slurm, second)
        devices = {one.environ()["CUDA_VISIBLE_DEVICES"] for one in (killed, other)}
        assert len(devices) == 2
        until(lambda: len(target_ports(home)) == 2, "Prometheus is told of both")
        until(lambda: time.time() - killed.create_time() > 10, "it is not a failed start")
        before = set(serving(client))
        killed.send_signal(signal.SIGKILL)
        until(lambda: set(serving(client)) - before, "it is started again")
        assert server_processes(slurm, first)
        with Caller(client, photos).calling():
            # The time is over soon: the server drains, and its job is queued again.
            slurm.run("scontrol", "update", f"JobId={second}", "TimeLimit=5")
            # They are busy: one more is submitted, and takes its part.
            until(lambda: "submitted" in demand(slurm), "one is submitted")
            (extra,) = extra_jobs(slurm)
            until(lambda: server_processes(slurm, extra), "it runs")
            assert not demand(slurm), "before it helps, no more are submitted"
            until(lambda: slurm.jobs()[second] == "PENDING", "the job is queued again")
            assert slurm.job(second)["Restarts"] == "1"
            assert not other.is_running()
            # A job that is cancelled is not.
            slurm.run("scancel", second)
            until(lambda: second not in slurm.jobs(), "it is cancelled")
    # Nobody calls any more. The calls since the last look may have asked for one more.
    until(lambda: not demand(slurm) and not extra_jobs(slurm), "no extra server is left")
    # Slurm signals the script, which tells the server, and the server.
    slurm.run("scancel", first)
    until(lambda: first not in slurm.jobs(), "it ends")
    # Who was killed could not remove its announcement.
    assert len(list((home / "announced").glob("*.json"))) == 1
    # What Slurm sends before the gateway's time is over.
    slurm.run("scancel", "--batch", "--signal=USR1", gateway)
    until(lambda: slurm.jobs()[gateway] == "PENDING", "the gateway is queued again")
    assert not (home / "address").exists()
    assert [one.name for one in (home / "jobs").iterdir() if one.name.isdigit()] == []


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so, without asking Slurm or servers more often than users do."""
    deadline = time.monotonic() + SLOW_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SLOW_SECONDS:g} s: {what}"
        time.sleep(0.4)


def target_ports(home: Path) -> set[str]:
    """Return the ports of the servers' pages of metrics."""
    targets = json.loads((home / "targets.json").read_text())
    pages = [one for target in targets for one in target["targets"]]
    assert {one.partition(":")[0] for one in pages} <= {"127.0.0.1"}
    return {one.partition(":")[2] for one in pages}


def demand(slurm: OneNodeSlurm, *flags: str) -> str:
    """Look once at what servers announce, as cron does each minute; return what was done."""
    options = ("--busy-percent=1", "--idle-minutes=0.02", *flags)
    return slurm.run(sys.executable, SCRIPTS / "demand.py", *options)


def extra_jobs(slurm: OneNodeSlurm) -> set[str]:
    return {one for one in slurm.jobs() if slurm.job(one)["JobName"] == "thingsvision-extra"}


@contextmanager
def connect(slurm: OneNodeSlurm) -> Iterator[Client]:
    """Be a user: set what `connect` prints, and a token."""
    printed = shlex.split(slurm.run(SCRIPTS / "connect"))
    assert printed[0] == "export"
    variables = dict(one.split("=", 1) for one in printed[1:])
    home = Path(os.environ["TV_HOME"])
    token = Lab(home, None).add_token("ada", Scope.READ, Scope.EXTRACT)  # type: ignore[arg-type]
    address, ca = variables["THINGSVISION_SERVER"], variables["THINGSVISION_CA"]
    with Client(address, ca=Path(ca), token=token) as client:
        until(lambda: len(serving(client)) == 2, "both servers are announced")
        yield client


def serving(client: Client) -> list[str]:
    try:
        found = client.residency().servers
    except (UnavailableError, UnauthenticatedError):  # none is there, or has read the tokens yet
        return []
    return [one.address for one in found if one.state == "serving"]


def server_processes(slurm: OneNodeSlurm, job: str) -> list[psutil.Process]:
    return slurm.processes(job, "--announce-dir")
