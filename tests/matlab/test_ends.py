"""Nothing stays after the server, the helper or Octave is killed, or a call is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import psutil
import pytest

from support.octave import FOLDER, command, environment
from support.server_process import ServerProcess, server_process
from thingsvision_client import Client

MODEL = "torchvision/squeezenet1_1@random:0"
MANY = 2_000
"""Images that take half a minute and more."""


class Session:
    """An Octave that reads lines as from a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*command("")[:-2], "--interactive", "--no-line-editing"],
            env=environment(TMPDIR=str(folder)),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line

    def say(self, code: str) -> None:
        """Have a line of code run."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code}\n")
        self.process.stdin.flush()

    def wait_for(self, text: str) -> str:
        """Wait until a text is printed, and return everything since the last call."""
        wait_until(lambda: text in self.printed, f"{text!r}; printed: {self.printed[-2000:]}")
        printed, self.printed = self.printed, ""
        return printed

    def folders(self) -> list[Path]:
        """Return the private folders of helpers."""
        return list(self.folder.glob("oct-*"))

    def helper(self) -> psutil.Process:
        """Return the helper that runs."""
        wait_until(lambda: any((one / "beat").exists() for one in self.folders()), "a helper")
        (beat,) = (one / "beat" for one in self.folders())
        return psutil.Process(int(beat.read_text().split()[1]))


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def leases(server: ServerProcess) -> int:
    """Return how many requests use a model."""
    with Client(server.address) as client:
        return sum(model.lease_count for model in client.residency().models)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    started = Session(tmp_path)
    try:
        yield started
    finally:
        with started.process as process:  # closes its pipes, too
            process.kill()


def begin_long_call(session: Session, server: ServerProcess) -> psutil.Process:
    """Begin a call of minutes, and return the helper once the server works on it."""
    session.say("try, c.activations(model, many, 'features.5', 'BatchSize', 4); disp('ended');")
    session.say("catch p, disp(p.identifier); disp(p.message); end, disp('done')")
    wait_until(lambda: leases(server) == 1, "the server to work")
    time.sleep(0.3)
    return session.helper()


def end_violently(session: Session, server: ServerProcess, photo: Path) -> psutil.Process:
    """Interrupt a call, kill the helper, and then the server; return the last helper."""
    session.say(f"addpath('{FOLDER}'); model = '{MODEL}';")
    session.say(f"c = thingsvision.Client('{server.address}', 'Verbose', false);")
    session.say(f"many = repmat({{'{photo}'}}, 1, {MANY});")
    # Ctrl-C: the server's work ends, and the same helper takes the next call.
    helper = begin_long_call(session, server)
    os.kill(session.process.pid, signal.SIGINT)
    wait_until(lambda: leases(server) == 0, "the end of the server's work")
    session.say("m = c.models('torchvision', 'alexnet'); disp(['name ', m.name])")
    session.wait_for("name alexnet")
    assert session.helper() == helper
    # The helper is killed: one sentence, and the next call has a new one.
    helper = begin_long_call(session, server)
    helper.kill()
    told = session.wait_for("done")
    assert "thingsvision:HelperEnded" in told
    assert "call again" in told
    wait_until(lambda: leases(server) == 0, "the end of the server's work")
    session.say("m = c.models('torchvision', 'alexnet'); disp(['name ', m.name])")
    session.wait_for("name alexnet")
    assert session.helper() != helper
    # A helper that dies between calls is replaced without a word.
    session.helper().kill()
    time.sleep(0.5)
    session.say("m = c.models('torchvision', 'vgg11'); disp(['name ', m.name])")
    assert "error" not in session.wait_for("name vgg11")
    # The server is killed: its error, and nothing stays of the call.
    helper = begin_long_call(session, server)
    server.process.kill()
    assert "thingsvision:Unavailable" in session.wait_for("done")
    (folder,) = session.folders()
    assert not list(folder.glob("*_[0-9]*"))
    return helper


def kill_all(session: Session, folder: Path, photo: Path) -> Iterator[psutil.Process]:
    """Yield the helper that runs after its server was killed."""
    with server_process(folder) as server:
        yield end_violently(session, server, photo)


def test_nothing_stays_after_a_violent_end(
    session: Session, tmp_path: Path, photos: list[Path]
) -> None:
    (tmp_path / "server").mkdir()
    ends = kill_all(session, tmp_path / "server", photos[0])
    helper = next(ends)
    with pytest.raises(AssertionError, match="ended with -9"):
        next(ends)
    # Octave is killed: the helper ends with it, and its folder is gone.
    session.process.kill()
    session.process.wait()
    wait_until(lambda: not helper.is_running(), "the end of the helper", 10)
    wait_until(lambda: not session.folders(), "the end of its folder", 10)
