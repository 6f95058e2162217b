"""Images per second of several clients on several models, and how often the models are loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from thingsvision_client import Client, PreprocessingOverrides
from thingsvision_client.errors import NotResidentError, ThingsvisionError

from .latency import MODULE
from .ways import Size, Way, Ways

_MOST_PROCESSES = 4
_SMALL = PreprocessingOverrides(resize=32, crop=False)
_READY_SECONDS = 120


def measure_clients(ways: Ways, size: Size, clients: int, models: int) -> dict[str, Any]:
    """Return the row of so many clients, each of which calls so many models in turn."""
    names = [f"torchvision/squeezenet1_1@random:{seed}" for seed in range(models)]
    loads = ways.each(lambda way: _load_all_anew(way, names))
    rates: dict[str, list[float]] = {name: [] for name in ways.by_name}
    failures = dict.fromkeys(ways.by_name, 0)
    for _ in range(size.rounds):
        for name, way in ways.by_name.items():
            done, failed = _run(way, ways.photos, names, clients=clients, seconds=size.seconds)
            rates[name].append(done / size.seconds)
            failures[name] += failed
    pairs = zip(rates["gateway"], rates["direct"], strict=True)
    row: dict[str, Any] = {"row": "images per second", "clients": clients, "models": models}
    for name, way in ways.by_name.items():
        row |= {
            f"{name}_images_per_s": median(rates[name]),
            f"{name}_loads": way.count_loads() - loads[name],
            f"{name}_failed": failures[name],
        }
    return row | {"ratio": median(gateway / direct for gateway, direct in pairs if direct)}


def _load_all_anew(way: Way, models: list[str]) -> int:
    """Unload all models of a way and call each once; return the number of loads before."""
    before = way.count_loads()
    with way.client() as client:
        for one in {str(one.model) for one in client.residency().models}:
            with suppress(NotResidentError):
                client.unload(one, on="all")
        for model in models:
            client.modules(model)
            client.load(model)
    return before


def _run(
    way: Way, photos: Path, models: list[str], *, clients: int, seconds: float
) -> tuple[int, int]:
    """Return how many images were done in so many seconds, and how many calls failed."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with _working(way, photos, models, folder=folder, clients=clients):
            began = time.monotonic()
            time.sleep(seconds)
            ended = time.monotonic()
        lines = [one.split() for path in folder.glob("*.calls") for one in path.open()]
    within = [int(count) for at, count in lines if began <= float(at) < ended]
    return sum(max(0, one) for one in within), sum(one < 0 for one in within)


@contextmanager
def _working(
    way: Way, photos: Path, models: list[str], *, folder: Path, clients: int
) -> Iterator[None]:
    """Have clients call, from several processes, until the end of the context."""
    from support.server_process import run_in_template

    processes = []
    for number in range(min(clients, _MOST_PROCESSES)):
        count = len(range(number, clients, _MOST_PROCESSES))
        access = (way.address, str(way.ca), way.token)
        where = (str(photos), str(folder), f"{number}", f"{count}")
        started = run_in_template(call_until_told, *access, *where, *models)
        processes.append(started)
    deadline = time.monotonic() + _READY_SECONDS
    try:
        while len([*folder.glob("*.ready")]) < clients:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{clients} clients did not start")
            time.sleep(0.02)
        yield
    finally:
        (folder / "over").touch()
        for process in processes:
            process.join(60)


def call_until_told(address: str, ca: str, token: str, *where_and_models: str) -> None:
    """Be several clients, in threads, until the folder has a file `over`.

    After the token come the folder of photographs, the folder, the number of this process, the
    number of clients, and the models. Each client writes a line for each call into the folder:
    when it ended, and its number of images, or -1.
    """
    photos, folder, number, count, *models = where_and_models
    images, place = sorted(Path(photos).iterdir()), Path(folder)

    def work(one: int) -> None:
        with (
            Client(address, ca=ca, token=token) as client,
            (place / f"{number}-{one}.calls").open("w") as calls,
        ):
            turn = one + int(number)
            while not (place / "over").exists():
                model = models[turn % len(models)]
                try:
                    found = client.extract(model, images, MODULE, preprocessing=_SMALL).features
                    done = len(found[MODULE])
                except ThingsvisionError:
                    done = -1
                calls.write(f"{time.monotonic()} {done}\n")
                turn += 1
                (place / f"{number}-{one}.ready").touch()

    threads = [threading.Thread(target=work, args=[one]) for one in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
