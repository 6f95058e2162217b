"""Two servers that fit, use and delete many PCAs in one folder at once, while some are killed."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.lab import bearer, found_lab
from support.owned_calls import extract, sent, with_images
from support.scarce_system import refuse_locks
from support.server_process import ServerProcess, server_process
from support.stock_calls import spec, stock_calls
from support.tiny_photos import write_tiny_photos
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.scopes import Scope

FIT_COUNT, ALL_FIT_COUNT = 80, 1000
KILLS, ALL_KILLS = 1, 5
PEOPLE = ("ada", "eve")
STAYING = tuple(f"stays {number}" for number in range(4))
PASSING = tuple(f"goes {number}" for number in range(6))
QUOTA = 100_000
"""Less than all names of both people need."""

HEADER = pb.ExtractHeader(
    model=spec("squeezenet1_0"),
    modules=["features.12"],
    overrides=pb.PreprocessingOverrides(resize_pixels=[32], crop_pixels=[32]),
    batch_size=4,
)
EXPECTED = (
    grpc.StatusCode.UNAVAILABLE,  # the server has been killed
    grpc.StatusCode.NOT_FOUND,  # somebody has deleted the PCA
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # the quota is full
)


class Load:
    """Fits, uses, lists and deletes PCAs, as two people, at whichever server is there."""

    def __init__(self, contents: list[bytes], tokens: dict[str, str]) -> None:
        self.contents = contents
        self.tokens = tokens
        self.addresses: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stored: dict[tuple[str, str], set[str]] = defaultdict(set)
        """The digests that fits of a name that nobody deletes have answered, by person and name."""
        self._lock = threading.Lock()

    def fit(self, seed: int) -> None:
        """Fit a PCA on the images that a name means, or on some without a name."""
        chance, person = self._who(seed)
        name = chance.choice([*STAYING, *PASSING, ""])
        images = self._images(name) if name else chance.sample(self.contents, 4)
        header = pb.FitPCAHeader(extraction=HEADER, component_count=2, name=name)
        request = with_images(pb.FitPCARequest, header, sent(images))
        if replies := self._call(chance, person, "FitPCA", request):
            self._count("fit")
            if name in STAYING:
                with self._lock:
                    self.stored[person, name].add(replies[-1].pca.sha256)
            if not name:
                self._delete(chance, person, replies[-1].pca.sha256)

    def use(self, seed: int) -> None:
        """Have scores of a PCA."""
        chance, person = self._who(seed)
        name = chance.choice([*STAYING, *PASSING])
        header = pb.ExtractHeader()
        header.CopyFrom(HEADER)
        header.reduction.pca = name
        request = extract(header, sent(self._images(name)))
        known = (person, name) in self.stored
        replies = self._call(chance, person, "Extract", request, is_there=known)
        self._count("used", bool(replies))

    def delete(self, seed: int) -> None:
        """Delete a PCA."""
        chance, person = self._who(seed)
        self._delete(chance, person, chance.choice(PASSING))

    def _delete(self, chance: random.Random, person: str, wanted: str) -> None:
        request = pb.DeletePCARequest(pca=wanted)
        self._count("deleted", bool(self._call(chance, person, "DeletePCA", request)))

    def _images(self, name: str) -> list[bytes]:
        return random.Random(name).sample(self.contents, 4)

    def _who(self, seed: int) -> tuple[random.Random, str]:
        chance = random.Random(seed)
        return chance, chance.choice(PEOPLE)

    def _call(
        self,
        chance: random.Random,
        person: str,
        method: str,
        request: Any,
        *,
        is_there: bool = False,
    ) -> list[Any]:
        """Return the replies; none if the call failed as it may."""
        with stock_calls(chance.choice(self.addresses)) as stock:
            try:
                return stock.call(method, request, bearer(self.tokens[person]))
            except grpc.RpcError as error:
                if error.code() not in EXPECTED[: 1 if is_there else 3]:
                    raise
                self._count(error.code().name)
                return []

    def _count(self, what: str, count: int = 1) -> None:
        with self._lock:
            self.counts[what] += count


def listed(server: ServerProcess, token: str) -> dict[str, str]:
    """Return the names of a person's PCAs by digest."""
    with stock_calls(server.address) as stock:
        found = [one.pca for one in stock.call("ListPCAs", pb.ListPCAsRequest(), bearer(token))]
    return {one.sha256: one.name for one in found}


def disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_many_fits_at_once_by_two_servers_of_which_one_is_killed(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    everything = request.config.getoption("--all")
    fit_count = ALL_FIT_COUNT if everything else FIT_COUNT
    lab = found_lab(tmp_path)
    tokens = {one: lab.add_token(one, Scope.READ, Scope.EXTRACT) for one in PEOPLE}
    write_tiny_photos(tmp_path / "tiny", photos, 20)
    contents = [path.read_bytes() for path in sorted((tmp_path / "tiny").iterdir())]
    load, pcas = Load(contents, tokens), tmp_path / "weights" / "pca"
    with ExitStack() as stack:
        # The disk of one machine has locks, those of the others have none.
        numbers = [0, errno.ENOLCK, errno.EOPNOTSUPP]

        def start(number: int) -> ServerProcess:
            own = tmp_path / f"server{number}"
            own.mkdir()
            error = numbers[number % 3]
            options = {"tokens": lab.tokens, "weights_dir": tmp_path / "weights", "exit_code": None}
            options |= {"pca_quota": QUOTA, "person_pca_quota": QUOTA}
            options |= {"before": partial(refuse_locks, error)} if error else {}
            return stack.enter_context(server_process(own, **options))  # type: ignore[arg-type]

        servers = [start(0), start(1)]
        load.addresses = [one.address for one in servers]
        kills, most = 0, 0
        with ThreadPoolExecutor(6) as pool:
            tasks = [load.fit] * fit_count + [load.use, load.delete] * (fit_count // 4)
            random.Random(0).shuffle(tasks)
            work = [pool.submit(task, seed) for seed, task in enumerate(tasks)]
            while not all(one.done() for one in work):
                most = max(most, disk_bytes(pcas))
                if (
                    kills < (ALL_KILLS if everything else KILLS)
                    and load.counts["fit"] > (kills + 1) * fit_count // 10
                ):
                    servers.pop(0).process.kill()
                    kills += 1
                    servers.append(start(kills + 1))
                    load.addresses = [one.address for one in servers]
                time.sleep(0.02)
        for one in work:
            one.result()
        print(dict(load.counts), f"at most {most:,} bytes")
        servers.append(start(kills + 2))  # which removes what the killed ones left
        assert kills
        assert load.counts["fit"] > fit_count // 3
        assert load.counts["used"]
        assert load.counts["deleted"]
        check_all(load, servers, pcas, kills)
        largest = max(path.stat().st_size for path in pcas.glob("*.safetensors"))
        assert most <= QUOTA + 2 * largest, "one file more for each server"


def check_all(load: Load, servers: list[ServerProcess], pcas: Path, kills: int) -> None:
    """Compare lists, digests, names, owners and the disk."""
    files = {path.stem: path for path in pcas.glob("*.safetensors")}
    for sha256, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    seen = {}
    for person, token in load.tokens.items():
        lists = [listed(server, token) for server in servers]
        assert lists[0] == lists[1] == lists[2]
        seen[person] = lists[0]
        names = [name for name in lists[0].values() if name]
        assert len(names) == len(set(names)), "a name is there twice"
    assert set(files) == set(seen["ada"]) | set(seen["eve"])
    for (person, name), digests in load.stored.items():
        assert len(digests) == 1, f"{name} of {person} became another PCA"
        assert seen[person].get(*digests) == name
    assert not list(pcas.rglob(".unfinished*"))
    owned = {path.parent.name for path in pcas.glob("owners/*/*.json")}
    assert len(owned - set(files)) <= kills, "a killed server leaves one record without a file"
    assert [one.internal_error_count for one in servers] == [0] * len(servers)
