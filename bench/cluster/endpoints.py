"""Measure what many servers cost the gateways: 64 endpoints that answer health, and little else.

    python -m bench.cluster.endpoints [--endpoints 64] [--models 1000]

The endpoints announce themselves as servers do, `thingsvision-server endpoints` lists them, and two
real gateways check and call them, over TLS. Prints a line of JSON per row: where models are, how
many move when endpoints leave, sizes, health checks, and the gateways' memory and cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from thingsvision_client import Client
from thingsvision_server.cluster.watch import AnnouncementWatch

from ..process import PROJECT
from .crowd import Crowd, crowd
from .ways import cpu_seconds

FEW, LEAVERS = 3, (1, 8)
_IDLE_SECONDS = 10.0
_SETTLE_SECONDS = 120.0
_MODELS_OF_A_SERVER = 5
_MERGE_SECONDS = 1.5
"""Envoy collects changes of health for a second before it places calls by them."""


@dataclass(frozen=True)
class Site:
    """Two gateways, the endpoints that they are told of, and what keeps them told."""

    cluster: Any
    crowd: Crowd
    file: Path
    lister: psutil.Process

    def settle(self) -> float:
        """Wait until both gateways call the endpoints that are there; return for how long."""
        from support.cluster import until

        wanted = self.crowd.addresses()
        waited = until(lambda: self.cluster.sent_to(wanted), "both know", _SETTLE_SECONDS)
        time.sleep(_MERGE_SECONDS)
        return float(waited)

    def place(self, models: int) -> list[dict[str, str]]:
        """Return which endpoint each gateway gives each model, by the model."""
        return [dict(self._place(number, models)) for number in range(2)]

    def _place(self, gateway: int, models: int) -> Iterator[tuple[str, str]]:
        from support.cluster import served_by
        from support.stock_calls import StockCaller

        with self.cluster.channel(gateway) as channel:
            stock = StockCaller(channel)
            for number in range(models):
                model = f"torchvision/model{number}@default"
                yield model, served_by(stock, ("x-model", model))


def main() -> None:
    """Measure, and print a line of JSON per row."""
    from .__main__ import tell

    parser = argparse.ArgumentParser(prog="python -m bench.cluster.endpoints", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=64)
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    sys.path.insert(0, str(PROJECT / "tests"))  # which start servers and gateways
    with tempfile.TemporaryDirectory(prefix="thingsvision-endpoints-") as folder:
        for row in measure(Path(folder), options.endpoints, options.models):
            tell(row)


def measure(folder: Path, endpoints: int, models: int) -> Iterator[dict[str, Any]]:
    """Yield all rows."""
    with open_site(folder, endpoints) as site:
        everybody = site.crowd.names()
        site.crowd.leave(*everybody[FEW:])
        site.settle()
        yield measure_cost(site)
        yield measure_leaving(site, site.place(models)[0], 1, models)
        site.crowd.come(*everybody[FEW:])
        seconds = site.settle()
        yield measure_cost(site) | {"seconds_until_known": seconds}
        first, second = site.place(models)
        counts = Counter(dict.fromkeys(site.crowd.addresses(), 0))
        counts.update(first.values())
        yield {
            "row": "placement",
            "models": models,
            "fewest": min(counts.values()),
            "most": max(counts.values()),
            "gateways_differ": sum(first[one] != second[one] for one in first),
        }
        for leavers in LEAVERS:
            yield measure_leaving(site, first, leavers, models)


def measure_leaving(site: Site, before: dict[str, str], count: int, models: int) -> dict[str, Any]:
    """Have so many endpoints leave and return; return the row of what moved."""
    leavers = site.crowd.names()[:count]
    gone = {site.crowd.address_of(name) for name in leavers}
    site.crowd.leave(*leavers)
    left_after = site.settle()
    without = site.place(models)[0]
    site.crowd.come(*leavers)
    back_after = site.settle()
    again = site.place(models)[0]
    return {
        "row": "leave and return",
        "endpoints": len(site.crowd.addresses()),
        "models": models,
        "leave": count,
        "had_to_move": sum(place in gone for place in before.values()),
        "moved": sum(before[one] != without[one] for one in before),
        "not_back": sum(before[one] != again[one] for one in before),
        "seconds_until_known": left_after,
        "seconds_until_known_again": back_after,
    }


def measure_cost(site: Site) -> dict[str, Any]:
    """Return the row of sizes, and of what runs when nobody calls."""
    gateways = [psutil.Process(one.process.pid) for one in site.cluster.gateways]
    checks = site.crowd.check_count
    used = [cpu_seconds(one) for one in (*gateways, site.lister)]
    time.sleep(_IDLE_SECONDS)
    cores = [
        (cpu_seconds(one) - before) / _IDLE_SECONDS
        for one, before in zip((*gateways, site.lister), used, strict=True)
    ]
    files = [*site.crowd.folder.glob("*.json")]
    watch = AnnouncementWatch(site.crowd.folder)
    watch.look()
    began = time.perf_counter()
    watch.look()
    return {
        "row": "cost",
        "endpoints": len(files),
        "bytes_of_an_announcement": sum(one.stat().st_size for one in files) / len(files),
        "bytes_of_the_list": site.file.stat().st_size,
        "health_checks_per_s": (site.crowd.check_count - checks) / _IDLE_SECONDS,
        "gateway_memory_mib": max(one.memory_info().rss for one in gateways) / 2**20,
        "gateway_cores": max(cores[:2]),
        "list_cores": cores[2],
        "ms_to_read_announcements": 1000 * (time.perf_counter() - began),
    }


@contextmanager
def open_site(folder: Path, endpoints: int) -> Iterator[Site]:
    """Run gateways, endpoints, and the list of them until the end of the context."""
    from support.cluster import cluster_of

    status = _status_of_a_server(folder)
    with ExitStack() as stack:
        cluster = stack.enter_context(cluster_of(folder, gateway_count=2, asks_often=False))
        announced, file = folder / "announced", cluster.files / "gateway/endpoints/endpoints.json"
        announced.mkdir(mode=0o755)
        found = stack.enter_context(crowd(announced, cluster.files, endpoints, status))
        program = [sys.executable, "-m", "thingsvision_server", "endpoints"]
        command = [*program, "--announce-dir", str(announced), "--write", str(file)]
        log = stack.enter_context((folder / "list.log").open("wb"))
        lister = stack.enter_context(subprocess.Popen(command, stderr=log, cwd=PROJECT))
        stack.callback(lister.terminate)
        yield Site(cluster, found, file, psutil.Process(lister.pid))


def _status_of_a_server(folder: Path) -> dict[str, Any]:
    """Return what a real server with some models announces of itself."""
    from support.cluster import until
    from support.server_process import server_process
    from thingsvision_server.cluster.announcement import parse_announcement

    place = folder / "real"
    place.mkdir()
    with server_process(place, announce_dir=place / "announced") as server:
        with Client(server.address) as client:
            for seed in range(_MODELS_OF_A_SERVER):
                client.load(f"torchvision/squeezenet1_1@random:{seed}")
        (file,) = (place / "announced").glob("*.json")

        def count() -> int:
            return len(parse_announcement(file.read_bytes()).status.get("models", ()))

        until(lambda: count() == _MODELS_OF_A_SERVER, "the models are announced", 60)
        return dict(parse_announcement(file.read_bytes()).status)


if __name__ == "__main__":
    main()
