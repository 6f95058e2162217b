"""Which server computed which rows, and in what servers may differ so that bits do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .cores import Cores


@dataclass(frozen=True)
class ServerFacts:
    """A server, and what decides the last bits of the features that it computes.

    A field that is empty is unknown: an older server did not tell it.

    Attributes:
        address: Where the cluster reaches it; empty if it announces no address.
        host_name: The name of its machine.
        version: Its version.
        device: The kind of its device, such as `cuda` or `cpu`.
        hardware: The hardware of the device, as in `Provenance`.
        cores: Cores of a pass in a lane of a CPU (`count`), and of all lanes (`tail_count`).
        pass_cores: Cores of the passes of the extraction, and of its last passes, without their
            place.
        framework: Framework and version that ran the model.
        libraries: Libraries and their versions, such as `torch 2.11.0`.
        model_sha256: SHA-256 of the model's parameters and buffers.
        batch_size: Images in a forward pass.
        model: The model that it ran, which is not compared.

    """

    address: str = ""
    host_name: str = ""
    version: str = ""
    device: str = ""
    hardware: str = ""
    cores: Cores | None = None
    pass_cores: Cores | None = None
    framework: str = ""
    libraries: tuple[str, ...] = ()
    model_sha256: str = ""
    batch_size: int = 0
    model: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What an error calls the server."""
        return self.address or self.host_name or "a server that did not give its name"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are known, as JSON values."""
        found = {name: one for name, one in vars(self).items() if one and name != "model"}
        for name in ("cores", "pass_cores"):
            if name in found:
                found[name] = vars(found[name])
        return found | ({"libraries": [*self.libraries]} if self.libraries else {})

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> ServerFacts:
        """Return the facts that `to_dict` gave; fields of later versions are left out."""
        names = [one.name for one in fields(ServerFacts) if one.compare]
        known = {name: written[name] for name in names if name in written}
        for name in ("cores", "pass_cores"):
            if name in known:
                known[name] = Cores(**known[name])
        return ServerFacts(**{**known, "libraries": tuple(known.get("libraries", ()))})

    @staticmethod
    def of_record(facts: Mapping[str, Any]) -> ServerFacts:
        """Return the server that a job's record or a file's metadata tell of.

        What was written before servers told of themselves has less.
        """
        ranges = facts.get("servers") or [facts.get("server") or {}]
        told = ServerFacts.from_dict(ranges[0])
        passes = told.pass_cores
        if cores := facts.get("cores"):
            passes = Cores(cores["count"], 0, cores["tail_count"])
        return replace(
            told,
            version=told.version or facts.get("server_version", ""),
            device=told.device or str(facts.get("device", "")).partition(":")[0],
            hardware=told.hardware or facts.get("hardware", ""),
            framework=told.framework or facts.get("framework", ""),
            model_sha256=told.model_sha256 or facts.get("model_sha256", ""),
            batch_size=told.batch_size or facts.get("server_batch_size", 0),
            pass_cores=passes,
            model=facts.get("model", ""),
        )

    def differences(self, other: ServerFacts) -> list[str]:
        """Return how another server differs, a phrase each; an unknown fact is no difference."""
        pairs = ((words, read(self), read(other)) for words, read in _COMPARED.items())
        found = [
            f"{' '.join(words)} {_told(mine)} there and {_told(its)} here"
            for words, mine, its in pairs
            if _is_known(mine) and _is_known(its) and mine != its
        ]
        return [*found, *_library_differences(self.libraries, other.libraries)]

    def unknown(self, other: ServerFacts) -> list[str]:
        """Return the facts that only one of two servers told."""
        return [
            noun
            for (noun, _), read in _COMPARED.items()
            if _is_known(read(self)) != _is_known(read(other))
        ]


@dataclass(frozen=True)
class ServedRows:
    """Consecutive images whose rows one server computed.

    Attributes:
        first_index: Place of the first of them.
        image_count: Number of the images.
        server: The server.

    """

    first_index: int
    image_count: int
    server: ServerFacts

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, the server's beside the others."""
        own = {"first_index": self.first_index, "image_count": self.image_count}
        return own | self.server.to_dict()

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> ServedRows:
        """Return what `to_dict` gave."""
        server = ServerFacts.from_dict(written)
        return ServedRows(written["first_index"], written["image_count"], server)


@dataclass(frozen=True)
class Aim:
    """The only server that may take a call; empty: any.

    It is called by its own address if it `is_direct`, else through the gateway.
    """

    server: str = ""
    is_direct: bool = False


ANY = Aim()


def join_ranges(ranges: Iterable[ServedRows]) -> list[ServedRows]:
    """Return ranges in order, neighbours of one server as one."""
    found: list[ServedRows] = []
    for one in ranges:
        last = found[-1] if found else None
        follows = last is not None and last.first_index + last.image_count == one.first_index
        if last is not None and follows and last.server == one.server:
            found[-1] = replace(last, image_count=last.image_count + one.image_count)
        elif one.image_count:
            found.append(one)
    return found


def _lane_cores(facts: ServerFacts) -> int:
    return 0 if facts.cores is None else facts.cores.count


def _all_cores(facts: ServerFacts) -> int:
    """Return all cores, where passes use them all: frameworks with threads of their own."""
    return 0 if facts.cores is None or facts.pass_cores is not None else facts.cores.tail_count


def _pass_cores(facts: ServerFacts) -> tuple[int, int]:
    cores = facts.pass_cores
    return (0, 0) if cores is None else (cores.count, cores.tail_count)


_COMPARED: Mapping[tuple[str, str], Callable[[ServerFacts], Any]] = {
    ("the device", "is"): lambda facts: facts.device,
    ("the hardware", "is"): lambda facts: facts.hardware,
    ("the version of the server", "is"): lambda facts: facts.version,
    ("the framework", "is"): lambda facts: facts.framework,
    ("the cores of a lane", "are"): _lane_cores,
    ("the cores of all lanes", "are"): _all_cores,
    ("the cores of a pass and of the last passes", "are"): _pass_cores,
    ("the images of a pass", "are"): lambda facts: facts.batch_size,
    ("the SHA-256 of the weights", "is"): lambda facts: facts.model_sha256,
}
"""What has to be the same for the same bits, by the words for it."""


def _is_known(value: Any) -> bool:
    return bool(any(value)) if isinstance(value, tuple) else bool(value)


def _told(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _library_differences(mine: Iterable[str], its: Iterable[str]) -> Iterator[str]:
    """Yield the libraries of which both servers have one, in other versions."""
    versions, others = (dict(one.rsplit(" ", 1) for one in them) for them in (mine, its))
    for name in versions.keys() & others.keys():
        if versions[name] != others[name]:
            yield f"{name} is {versions[name]} there and {others[name]} here"
