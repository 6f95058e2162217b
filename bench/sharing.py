"""Measure how one server is shared: four people at work, and a fifth who asks for single images.

    python -m bench.sharing [--seconds 40] [--images 400]

One has batches of 64, one another model through 50 connections, one RDMs, one PCAs, all of images
that are on the server, so that clients and decoding take few of the cores. The server
counts the seconds of its device that each of them used; shares are also told of the time in which
all four had images that waited for the device, because who has none waiting is owed nothing. Each
person's rate is compared with the rate when alone, so these shares add up to 1 if nothing is lost.
The fifth person's wait is given as a multiple of the longest pass.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from thingsvision_client import Client

from .device_shares import Sampler, free_port
from .photographs import copy_photographs, photograph_folder
from .process import PROJECT
from .server import serve

MODEL, OTHER = "torchvision/resnet18@random:0", "torchvision/squeezenet1_1@random:0"
MODULES = {MODEL: "avgpool", OTHER: "classifier.3"}
PEOPLE = {
    "batches-of-64": (MODEL, 64, 1),
    "other-model": (OTHER, 4, 50),
    "rdms": (MODEL, 0, 1),
    "pcas": (MODEL, 0, 1),
}
"""Model, batch size (0: the server's) and connections of each person."""

_COMPONENTS = 20


def work(address: str, name: str) -> None:
    """Use the server as one person until the process is ended."""
    model, batch_size, connections = PEOPLE[name]
    module = MODULES[model]

    def one() -> None:
        with Client(address) as client:
            images = client.server_images()
            while True:
                if name == "rdms":
                    client.rdm(model, images, module)
                elif name == "pcas":
                    client.fit_pca(model, images, module, components=_COMPONENTS)
                else:
                    client.extract(model, images, module, batch_size=batch_size)

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def person(address: str, name: str, *, token: str) -> Iterator[None]:
    """Have a person work, in a process of its own, while the context lasts."""
    command = [sys.executable, "-m", "bench.sharing", "--work", address, name]
    variables = os.environ | {"THINGSVISION_TOKEN": token}
    with subprocess.Popen(command, env=variables, cwd=PROJECT) as process:
        try:
            yield
        finally:
            process.kill()


def waits(client: Client, image: str, seconds: float) -> list[float]:
    """Ask for single images for some seconds; return how long each took."""
    until, found = time.monotonic() + seconds, []
    while time.monotonic() < until:
        started = time.monotonic()
        client.extract(MODEL, [image], MODULES[MODEL], batch_size=1)
        found.append(time.monotonic() - started)
        time.sleep(0.2)
    return found


def main() -> None:
    """Measure, and print a line of JSON per figure."""
    options = _options()
    if options.work:
        work(*options.work)
        return
    with tempfile.TemporaryDirectory(prefix="thingsvision-sharing-") as scratch:
        folder, port = Path(scratch), free_port()
        images = _copy(folder / "photos", options.images, options.side)
        tokens = make_tokens(folder, [*PEOPLE, "fifth"])
        arguments = [
            "--device=cpu",
            f"--weights-dir={folder}",
            f"--tokens={folder / 'tokens.json'}",
        ]
        arguments += [f"--image-root={folder / 'photos'}"]
        arguments += [f"--metrics-port={port}", "--metrics-people=16"]
        variables = {"PYTHONPATH": f"{PROJECT}/proto:{PROJECT}/server:{PROJECT}/client"}
        with (
            serve(folder / "log", *arguments, variables=variables) as server,
            Client(server.address, token=tokens["fifth"]) as fifth,
        ):
            measure(server.address, fifth, images, Measured(options.seconds, tokens, port))


@dataclass(frozen=True)
class Measured:
    """How long all work together, their tokens, and the port of the server's metrics."""

    seconds: float
    tokens: dict[str, str]
    port: int

    def sampler(self, *people: str) -> Sampler:
        """Return a sampler of people's use."""
        return Sampler(self.port, list(people))


def measure(address: str, fifth: Client, images: list[str], measured: Measured) -> None:
    """Print what each person gets alone, and beside the others."""
    for model, module in MODULES.items():
        fifth.extract(model, images[:2], module)
    tell("alone", waits(fifth, images[0], measured.seconds / 8))
    longest = max(
        time_pass(fifth, model, images[: size or 64]) for model, size, _ in PEOPLE.values()
    )
    alone = {}
    for name in PEOPLE:
        sampler = measured.sampler(name)
        with person(address, name, token=measured.tokens[name]):
            sampler.wait_until_all_work()
            with sampler.sampling():
                time.sleep(measured.seconds / 4)
        alone[name] = sampler.rates()[name]
    sampler = measured.sampler(*PEOPLE)
    with ExitStack() as opened:
        for name in PEOPLE:
            opened.enter_context(person(address, name, token=measured.tokens[name]))
        sampler.wait_until_all_work()
        with sampler.sampling():
            found = waits(fifth, images[0], measured.seconds)
    tell("beside four people", found, longest)
    shares = {name: rate / alone[name] for name, rate in sampler.rates().items()}
    print(json.dumps({"longest_pass_s": round(longest, 3), "images_per_s_alone": alone}))
    print(json.dumps({"share_of_alone": {name: round(one, 3) for name, one in shares.items()}}))
    print(json.dumps({"sum_of_shares": round(sum(shares.values()), 3)}))
    for line in sampler.lines():
        print(json.dumps(line), flush=True)


def time_pass(client: Client, model: str, images: list[str]) -> float:
    """Return about how long a pass of these images takes."""
    extraction = client.extract(model, images, MODULES[model], batch_size=len(images))
    return float(extraction.timings.forward_seconds)


def tell(what: str, found: list[float], longest: float = 0.0) -> None:
    """Print the waits of the fifth person."""
    p50, p95 = np.percentile(found, [50, 95])
    line = {"fifth": what, "calls": len(found), "p50_s": round(p50, 3), "p95_s": round(p95, 3)}
    if longest:
        line["p95_of_longest_pass"] = round(p95 / longest, 2)
    print(json.dumps(line), flush=True)


def make_tokens(folder: Path, people: list[str]) -> dict[str, str]:
    """Return a token of each person, made by the server's own command."""
    found = {}
    for name in people:
        command = [sys.executable, "-m", "thingsvision_server", "token", "new"]
        command += ["--tokens", str(folder / "tokens.json"), "--name", name]
        done = subprocess.run(
            [*command, "--scopes", "read,extract"], capture_output=True, text=True, check=True
        )
        found[name] = done.stdout.split()[-1]
    return found


def _copy(folder: Path, count: int, side: int) -> list[str]:
    """Return photographs that are decoded quickly, so that all wait for the device."""
    found = []
    for path in copy_photographs(photograph_folder(None), count, folder):
        with Image.open(path) as image:
            found.append(str(path.with_suffix(".bmp")))
            image.convert("RGB").resize((side, side)).save(found[-1])
        path.unlink()
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of all together")
    parser.add_argument("--images", type=int, default=400, help="photographs of each person")
    parser.add_argument("--side", type=int, default=256, help="their height and width, pixels")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
