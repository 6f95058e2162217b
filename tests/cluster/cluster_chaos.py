"""Everything that goes wrong in a cluster, again and again, and work that must be right meanwhile.

Eight people work through two gateways with three servers, which share one folder. A call that a
fault ended is made again, a job into the folder where it was. Faults are dealt like cards, so that
each comes in every round; servers that ended may stay away while others end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from cluster.cluster_calls import Call, cluster_calls
from support.chaos_figures import Figures, count_wrong_rows
from support.cluster import Cluster, cluster_of, envoy_process, until
from support.scarce_system import can_mount
from support.server_process import run_in_template
from support.shared_disk import SharedDisk, join_disk, joining, shared_disk
from thingsvision_client import errors
from thingsvision_server import main

NAMES = ("a", "b", "c")
DISK_BYTES = 128 * 2**20
RECOVERY_SECONDS = 180.0
LONG_STOP_SECONDS = 35.0
"""Longer than servers believe that one lives which says nothing."""

OF_FAULTS: Mapping[type[Exception], tuple[str, ...]] = {
    errors.StorageError: ("full disk",),
    errors.UnavailableError: (),
    errors.IncompleteReplyError: (),
}
"""How a fault may end a call, and which faults end calls so; none named: all of them."""


class Person(threading.Thread):
    """Makes one kind of call again and again through a gateway, and knows what must come."""

    def __init__(self, kind: str, call: Call, chaos: ClusterChaos) -> None:
        super().__init__(name=kind, daemon=True)
        self.kind = kind
        self.count = 0
        self._call, self._chaos = call, chaos
        self._expected = call(-1)

    def run(self) -> None:
        figures = self._chaos.figures
        while not self._chaos.over.is_set():
            try:
                found = self._call(self.count)
            except errors.ThingsvisionError as error:
                self._note(error)
            except Exception as error:
                figures.losses.append(f"{self.kind}: {error!r}")
                time.sleep(0.1)
            else:
                self.count += 1
                figures.requests[self.kind] += 1
                figures.wrong_rows += count_wrong_rows(found, self._expected)

    def _note(self, error: errors.ThingsvisionError) -> None:
        figures, name = self._chaos.figures, type(error).__name__
        causes = next((of for kind, of in OF_FAULTS.items() if isinstance(error, kind)), None)
        if causes is None or (causes and not any(figures.faults[one] for one in causes)):
            figures.losses.append(f"{self.kind}: {name}: {error}")
        figures.met[f"{self.kind}: {name}"] += 1
        time.sleep(0.1)


class ClusterChaos:
    """A cluster, the people who use it, and the faults."""

    def __init__(self, cluster: Cluster, disk: SharedDisk | None, photos: Path, seed: int) -> None:
        self.cluster, self.photos = cluster, photos
        self.figures, self.over = Figures(), threading.Event()
        self.people: list[Person] = []
        self._disk = disk
        self._random = random.Random(seed)
        self._stopped: dict[str, float] = {}
        """When each server that is stopped goes on, by its name."""
        self._life = ExitStack()
        self._gateways: dict[int, ExitStack] = {}
        self._lister: ForkServerProcess | None = None
        self._log_count = 0

    def start(self) -> None:
        """Start gateways, note what people get when nothing goes wrong, and let them work."""
        self._list_endpoints()
        for number in range(2):
            self._open_gateway(number)
        until(lambda: self.cluster.sent_to(self._addresses()), "the gateways know all", 60)
        clients = [self._life.enter_context(self.cluster.client(one)) for one in range(2)]
        calls = cluster_calls(*clients, self.photos, self.cluster.folder)
        self.people = [Person(kind, call, self) for kind, call in calls.items()]
        for person in self.people:
            person.start()

    def run(self, seconds: float) -> None:
        """Deal all faults, in another order each time, for so long, and all of them once."""
        deadline, first = time.monotonic() + seconds, True
        while first or time.monotonic() < deadline:
            faults = list(self._faults(is_long=seconds > 2 * LONG_STOP_SECONDS))
            self._random.shuffle(faults)
            for name, fault in faults:
                if not first and time.monotonic() > deadline:
                    break
                self._bring_back()
                time.sleep(self._random.uniform(0.1, 1.0))
                self.figures.faults[name] += 1
                fault()
            first = False

    def finish(self) -> None:
        """Bring all back, and let each person complete one more call; who can't has lost it."""
        self._bring_back(everything=True)
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
        """End people, gateways and the list of endpoints."""
        self.over.set()
        for name in self._stopped:
            self.cluster.servers[name].process.resume()
        self._life.close()
        for gateway in self._gateways.values():
            gateway.close()
        self._end_lister()

    def _faults(self, *, is_long: bool) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "killed server", partial(self._end, signal.SIGKILL)
        yield "drained server", partial(self._end, signal.SIGTERM)
        yield "stopped server", partial(self._stop, self._random.uniform(0.5, 6))
        if is_long and self._random.random() < 0.2:
            yield "server stopped for long", partial(self._stop, LONG_STOP_SECONDS)
        yield "endpoint away", self._flap
        yield "killed gateway", self._restart_gateway
        yield "killed list of endpoints", self._restart_lister
        if self._disk is not None:
            yield "full disk", self._fill_disk

    def _addresses(self) -> set[str]:
        return set(map(self.cluster.address_of, self.cluster.servers))

    def _up(self) -> list[str]:
        """Return the names of the servers that run and are not stopped."""
        return [name for name in self.cluster.servers if name not in self._stopped]

    def _bring_back(self, *, everything: bool = False) -> None:
        """Start a server that ended, or let one that is stopped go on, at least one at a time."""
        for name, until_time in [*self._stopped.items()]:
            if everything or time.monotonic() > until_time:
                self.cluster.servers[name].process.resume()
                del self._stopped[name]
        away = [name for name in NAMES if name not in self.cluster.servers]
        self._random.shuffle(away)
        for name in away:
            if everything or len(self._up()) < 2 or self._random.random() < 0.5:
                self._keep_log(name)
                self.cluster.start(name)

    def _keep_log(self, name: str) -> None:
        """Save the log of a server that ended from the next server in its folder."""
        self._log_count += 1
        log = self.cluster.folder / name / "server.log"
        log.rename(log.with_name(f"server-{self._log_count}.log"))

    def _end(self, how: signal.Signals) -> None:
        self.cluster.end(self._random.choice(self._up()), how)

    def _stop(self, seconds: float) -> None:
        name = self._random.choice(self._up())
        self.cluster.servers[name].process.suspend()
        self._stopped[name] = time.monotonic() + seconds

    def _flap(self) -> None:
        """Remove a server's announcement, which it writes again."""
        files = [*self._seen(self.cluster.folder / "weights" / "announced").glob("*.json")]
        if files:
            self._random.choice(files).unlink(missing_ok=True)
        time.sleep(self._random.uniform(0, 2))

    def _seen(self, path: Path) -> Path:
        """Return where this process sees a path of the shared folder."""
        if self._disk is None:
            return path
        return Path(f"/proc/{self._disk.holder.pid}/root") / path.relative_to("/")

    def _fill_disk(self) -> None:
        assert self._disk is not None
        with self._disk.full():
            time.sleep(self._random.uniform(0.5, 4))

    def _restart_gateway(self) -> None:
        number = self._random.randrange(2)
        self.cluster.gateways[number].process.kill()
        self._gateways.pop(number).close()
        time.sleep(self._random.uniform(0, 1))
        self._open_gateway(number)

    def _open_gateway(self, number: int) -> None:
        """Start a gateway, on the ports that it had."""
        stack, gateways = ExitStack(), self.cluster.gateways
        ports = gateways[number].ports if number < len(gateways) else None
        folder = self.cluster.folder / f"gateway{number}"
        opened = envoy_process(self.cluster.files, folder, ports)
        gateways[number : number + 1] = [stack.enter_context(opened)]
        self._gateways[number] = stack

    def _list_endpoints(self) -> None:
        announced = self.cluster.folder / "weights" / "announced"
        file = self.cluster.files / "gateway" / "endpoints" / "endpoints.json"
        disk = ("", "") if self._disk is None else self._disk.as_text()
        log = str(self.cluster.folder / "endpoints.log")
        self._lister = run_in_template(list_endpoints, str(announced), str(file), log, *disk)

    def _restart_lister(self) -> None:
        self._end_lister()
        time.sleep(self._random.uniform(0, 2))
        self._list_endpoints()

    def _end_lister(self) -> None:
        if self._lister is not None:
            self._lister.kill()
            self._lister.join(10)


def list_endpoints(announced: str, file: str, log: str, folder: str, holder: str) -> None:
    """Run `thingsvision-server endpoints`, in a process of its own that sees the shared folder."""
    if holder:
        join_disk(folder, holder)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    sys.argv = ["thingsvision-server", "endpoints", "--announce-dir", announced, "--write", file]
    main()


@contextmanager
def cluster_chaos(folder: Path, photos: Path, seed: int) -> Iterator[ClusterChaos]:
    """Run a cluster; at the end of the context all people complete their last calls."""
    with ExitStack() as stack:
        weights = folder / "weights"
        disk = stack.enter_context(shared_disk(weights, DISK_BYTES)) if can_mount() else None
        options = {
            "announce_dir": weights / "announced",
            "drain_seconds": 5,
            **joining(disk),
        }
        cluster = stack.enter_context(cluster_of(folder, *NAMES, gateway_count=0, **options))
        found = ClusterChaos(cluster, disk, photos, seed)
        try:
            found.start()
            yield found
            found.finish()
        finally:
            found.close()
