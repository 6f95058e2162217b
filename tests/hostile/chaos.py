"""Everything that goes wrong in a lab, again and again, and work that must be right meanwhile.

People make calls whose replies don't depend on others; faults are dealt like cards, so that each
comes in every round. A call that a fault ended is made again.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.broken_network import Proxy
from support.chaos_figures import Figures, count_wrong_rows
from support.fixed_calls import fixed_calls
from support.lab import Lab
from support.own_files import DECLARED, onnx_file
from support.own_networks import network
from support.scarce_system import can_mount, full_disk, mount_small_disks
from support.server_process import ServerProcess, run_in_template, server_process
from thingsvision_client import Client, errors
from thingsvision_server.access.commands import main as run_token_command
from thingsvision_server.access.scopes import Scope

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.5"
GUEST_MODULE = "act2"
SMALL_DISKS = {"images": 3_000_000, "spill": 3_000_000}
STALL_SECONDS = 3.0
RECOVERY_SECONDS = 60.0
KINDS = ("extract", "rdm", "models", "job", "upload", "deterministic", "own-program")
PEOPLE = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD)

OF_FAULTS: Mapping[type[Exception], tuple[str, ...]] = {
    errors.UnauthenticatedError: ("revoked token",),
    errors.StorageError: ("full disk",),
    errors.BackendCrashedError: ("killed child", "killed server", "drained server"),
    errors.PreconditionError: ("killed child",),  # its input is taken for what kills it
    errors.UnavailableError: (),
    errors.IncompleteReplyError: (),
    errors.StoppedError: (),
}
"""How a fault may end a call, and which faults end calls so; none named: all of them."""


class Person(threading.Thread):
    """Makes one kind of call again and again, with an own token, and knows what must come."""

    def __init__(self, kind: str, chaos: Chaos) -> None:
        super().__init__(name=kind, daemon=True)
        self.kind, self._chaos = kind, chaos
        self.token = chaos.lab.add_token(kind, *PEOPLE)
        self.client = chaos.client(self.token)
        self.count = 0
        self.expected: dict[int, Any] = {}

    def run(self) -> None:
        while not self._chaos.over.is_set():
            try:
                self._call()
            except errors.ThingsvisionError as error:
                self._note(error)
            except Exception as error:
                self._chaos.figures.losses.append(f"{self.kind}: {error!r}")

    def prepare(self, variants: int) -> None:
        """Make each variant of the call once, undisturbed."""
        self.expected = {number: self._work()(number) for number in range(variants)}

    def renew(self) -> None:
        """Have this person's tokens revoked, and get another."""
        with suppress(SystemExit):
            run_token_command(
                ["revoke", "--tokens", str(self._chaos.lab.tokens), "--name", self.kind]
            )
        time.sleep(2.5)  # the server ends the call that runs
        self.token = self._chaos.lab.add_token(self.kind, *PEOPLE)
        self.client = self._chaos.client(self.token)

    def _work(self) -> Callable[[int], Any]:
        return self._chaos.calls(self.client)[self.kind]

    def _call(self) -> None:
        number = self.count % len(self.expected)
        found = self._work()(number)
        self.count += 1
        figures = self._chaos.figures
        figures.requests[self.kind] += 1
        figures.wrong_rows += count_wrong_rows(found, self.expected[number])

    def _note(self, error: errors.ThingsvisionError) -> None:
        figures, name = self._chaos.figures, type(error).__name__
        causes = next((of for kind, of in OF_FAULTS.items() if isinstance(error, kind)), None)
        if causes is None or (causes and not any(figures.faults[one] for one in causes)):
            figures.losses.append(f"{self.kind}: {name}: {error}")
        figures.met[name] += 1
        time.sleep(0.1)


class Chaos:
    """A lab's server behind a network that breaks, the people who use it, and the faults."""

    def __init__(self, lab: Lab, network: Proxy, folder: Path, photos: Path, seed: int) -> None:
        self.lab, self.network, self.folder, self.photos = lab, network, folder, photos
        self.figures, self.over = Figures(), threading.Event()
        self._random = random.Random(seed)
        self._disks = {folder / "server" / name: size for name, size in SMALL_DISKS.items()}
        self._can_mount = can_mount()
        self._life = ExitStack()
        self._server: ServerProcess | None = None
        self._own_model: Any = None
        self._job_count = 0
        self.people: list[Person] = []

    @property
    def server(self) -> ServerProcess:
        """The server that runs now."""
        assert self._server is not None
        return self._server

    def client(self, token: str) -> Client:
        """Return a client that calls through the network."""
        return Client(f"grpcs://{self.network.address}", ca=self.lab.ca, token=token)

    def calls(self, client: Client) -> dict[str, Callable[[int], Any]]:
        """Return what people do: a number chooses the images."""
        files = sorted(self.photos.iterdir())
        calls = fixed_calls(client, self.photos, self.folder)

        def alone(model: Any, module: str, number: int) -> list[list[bytes]]:
            chosen = files[number :: 3 + number]
            found = client.extract(model, chosen, module, deterministic=True).features[module]
            return [[row.tobytes() for row in found]]

        def job(_number: int) -> Any:
            self._job_count += 1
            return calls["job"](self._job_count)

        return calls | {
            "job": job,
            "deterministic": lambda number: alone(MODEL, MODULE, number),
            "own-program": lambda number: alone(self._own_model, GUEST_MODULE, number),
        }

    def start(self) -> None:
        """Start the server, and note what people get when nothing goes wrong."""
        self.people = [Person(kind, self) for kind in KINDS]
        self._open()
        program = onnx_file(network(0), self.folder / "own.onnx")
        (owner,) = (person for person in self.people if person.kind == "own-program")
        self._own_model = owner.client.upload_model(program, DECLARED)
        for person in self.people:
            person.prepare(3 if person.kind in ("deterministic", "own-program") else 1)
        for person in self.people:
            person.start()

    def run(self, seconds: float) -> None:
        """Deal all faults, in another order each time, for so long, and all of them once."""
        deadline, first = time.monotonic() + seconds, True
        while first or time.monotonic() < deadline:
            faults = list(self._faults())
            self._random.shuffle(faults)
            for name, fault in faults:
                if not first and time.monotonic() > deadline:
                    break
                time.sleep(self._random.uniform(0.1, 0.6))
                self.figures.faults[name] += 1
                fault()
            first = False

    def finish(self) -> None:
        """Let each person complete one more call; a call that can't is lost."""
        before = {person.kind: person.count for person in self.people}
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline and any(p.count == before[p.kind] for p in self.people):
            time.sleep(0.05)
        self.over.set()
        for person in self.people:
            person.join(max(0.1, deadline - time.monotonic()))
            if person.is_alive() or person.count == before[person.kind]:
                self.figures.losses.append(f"{person.kind}: the last call does not end")

    def close(self) -> None:
        """End the server."""
        self.over.set()
        self._life.close()

    def _faults(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "killed server", partial(self._end_server, signal.SIGKILL)
        yield "drained server", partial(self._end_server, signal.SIGTERM)
        yield "killed child", self._kill_child
        yield "killed client", self._kill_client
        yield "stalled client", self._stall
        yield "cancelled call", self._cancel
        yield "cut connections", self.network.cut
        yield "silent network", self._silence
        yield "revoked token", self._revoke
        if self._can_mount:
            yield "full disk", self._fill_disk

    def _open(self) -> None:
        before = partial(mount_small_disks, self._disks) if self._can_mount else None
        self._server = self._life.enter_context(
            server_process(
                self.folder,
                before=before,
                weights_dir=self.folder / "server",
                spill_dir=self.folder / "server" / "spill",
                rdm_features_memory=0,
                stall_seconds=STALL_SECONDS,
                lease_seconds=1,
                **self.lab.server_files,
            )
        )
        self.network.target = self._server.address

    def _end_server(self, how: signal.Signals) -> None:
        self.server.process.send_signal(how)
        time.sleep(self._random.uniform(0, 0.5))
        self.network.cut()
        self.server.process.wait(30)  # a second SIGTERM would end it at once
        killed = pytest.raises(AssertionError, match="ended with -9")
        with killed if how == signal.SIGKILL else nullcontext():
            self._life.close()
        self._open()

    def _kill_child(self) -> None:
        children = self.server.process.children(recursive=True)
        for child in self._random.sample(children, min(1, len(children))):
            with suppress(ProcessLookupError):
                child.kill()

    def _kill_client(self) -> None:
        """Stop a client's process in the middle of its work for a moment, then kill it."""
        token = self.people[0].token
        url = f"grpcs://{self.network.address}"
        started = run_in_template(work_until_killed, url, str(self.lab.ca), token, str(self.photos))
        time.sleep(self._random.uniform(0.5, 1.5))
        assert started.pid is not None
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGSTOP)
            time.sleep(self._random.uniform(0, 0.5))
        started.kill()
        started.join(10)

    def _stall(self) -> None:
        """Have somebody send an image, then nothing, for longer than the server waits."""

        def images() -> Iterator[Path]:
            yield next(self.photos.iterdir())
            time.sleep(STALL_SECONDS + 1)

        def call() -> None:
            with self.client(self.people[0].token) as client, suppress(errors.ThingsvisionError):
                client.extract(MODEL, images(), MODULE)

        threading.Thread(target=call, daemon=True).start()

    def _cancel(self) -> None:
        """Leave a stream after its first row, and close a client whose call runs."""
        with self.client(self.people[0].token) as client, suppress(errors.ThingsvisionError):
            next(iter(client.stream(MODEL, self.photos, MODULE, batch_size=1)))

    def _silence(self) -> None:
        self.network.fall_silent()
        time.sleep(self._random.uniform(0.2, 2))
        self.network.flow_again()

    def _revoke(self) -> None:
        self._random.choice(self.people).renew()

    def _fill_disk(self) -> None:
        with full_disk(self.server.process, self._random.choice([*self._disks])):
            time.sleep(self._random.uniform(0.5, 2))


def work_until_killed(url: str, ca: str, token: str, photos: str) -> None:
    """Extract again and again, in a process of its own."""
    with Client(url, ca=ca, token=token) as client:
        while True:
            with suppress(errors.ThingsvisionError):
                client.extract(MODEL, photos, MODULE, batch_size=2)


@contextmanager
def chaos(lab: Lab, network: Proxy, folder: Path, photos: Path, seed: int) -> Iterator[Chaos]:
    """Run a lab; at the end of the context all people complete their last calls."""
    found = Chaos(lab, network, folder, photos, seed)
    try:
        found.start()
        yield found
        found.finish()
    finally:
        found.close()
