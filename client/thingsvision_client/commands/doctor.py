"""Check the way to a server, step by step, and say what to do at the first that fails."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from ..client import Client
from ..errors import NoServerError, ThingsvisionError, WeightsMissingError
from ..rpc.address import (
    SERVER_VARIABLE,
    is_encrypted,
    is_on_this_machine,
    resolve_address,
)
from ..rpc.proxies import find_route, may_use_proxy
from ..values.provenance import Provenance
from ..values.records import Residency
from .naming import find_model
from .options import Server
from .sentences import in_shell

_ANSWER_SECONDS = 120.0
_MODEL = "torchvision/squeezenet1_1@random:0"
"""Small, and in need of no weights: 5 MB, 1000 values for an image."""

_MODULE = "classifier.3"
_PIXELS = 224
_MIB = 1024 * 1024
_LIBRARIES = ("grpcio", "numpy", "protobuf", "pyarrow")


@dataclass(frozen=True)
class Finding:
    """What one step found; `next_step` says what to do if it failed, and is empty if it did not."""

    name: str
    text: str
    next_step: str = ""


def doctor(
    model: Annotated[
        str,
        typer.Option(
            help="Model for the round trip of an image; the default is small and needs no weights.",
            metavar="NAME",
        ),
    ] = _MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    server: Server = None,
) -> None:
    """Check the way to a server: address, proxy, versions, device, weights, and an image's way.

    The exit code is 0 if an image came back as features, otherwise 1.
    """
    findings = []
    for finding in _examine(server, model):
        findings.append(finding)
        if not as_json:
            typer.echo("\n".join(_lines(finding)))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings], indent=2))
    if any(one.next_step for one in findings):
        raise typer.Exit(1)
    if not as_json:
        typer.echo("Everything works.")


def _lines(finding: Finding) -> Iterator[str]:
    mark = "FAILED" if finding.next_step else "ok"
    yield f"{mark:7}{finding.name:12}{in_shell(finding.text)}"
    if finding.next_step:
        yield f"{'':7}next step:  {finding.next_step}"


def _examine(server: str | None, model: str) -> Iterator[Finding]:
    """Yield what each step finds, up to the first that fails."""
    try:
        address = resolve_address(server)
    except NoServerError as error:
        next_step = (
            f"export {SERVER_VARIABLE}=host:port, or start a server with `thingsvision-server`"
        )
        yield Finding("address", str(error), next_step)
        return
    given = "--server" if server or address != os.environ.get(SERVER_VARIABLE) else SERVER_VARIABLE
    yield Finding("address", f"{address}, from {given}")
    yield Finding("proxy", _proxy(address))
    yield Finding("TLS", _encryption(address))
    yield Finding("client", _client_versions())
    with Client(address, timeout=_ANSWER_SECONDS) as client:
        steps: list[Callable[[Client], Finding]] = [_connection, _device, _weights]
        try:
            for step in steps:
                yield step(client)
            yield from _round_trip(client, model)
        except ThingsvisionError as error:
            yield _failure(error)


def _failure(error: ThingsvisionError) -> Finding:
    kind = type(error).__name__
    if kind in ("CertificateError", "UnauthenticatedError", "PermissionDeniedError"):
        return Finding("access", f"{kind}: {error}", "do what the sentence says")
    name = "connection" if kind in ("UnavailableError", "DeadlineError") else "server"
    return Finding(name, f"{kind}: {error}", _next_step(error))


def _next_step(error: ThingsvisionError) -> str:
    if isinstance(error, WeightsMissingError):
        return "put the weights where the sentence says, or pass --model NAME@random:0"
    return {
        "UnavailableError": "check that `thingsvision-server` runs there, that it listens on the "
        "network (--host 0.0.0.0), and that no firewall or proxy is between",
        "DeadlineError": "see the server's log: it was connected, but did not finish in time",
        "UnsupportedError": "install the same version on both sides",
        "UnknownModelError": "run `thingsvision-client models` for names",
    }.get(type(error).__name__, f"see the server's log for request id {error.request_id}")


def _proxy(address: str) -> str:
    route = find_route(address, proxy=may_use_proxy(address))
    if route.is_direct:
        return route.advice().rstrip(".") or "none"
    return f"{route.shown_url}, because {route.variable} is set"


def _encryption(address: str) -> str:
    if is_encrypted(address):
        return "the connection is encrypted, and the server's certificate is checked"
    if is_on_this_machine(address):
        return "none, and none is needed: the server is on this machine"
    return "none: others on the way can read what is sent; a token is not sent"


def _client_versions() -> str:
    named = [f"thingsvision-client {_version('thingsvision-service')}"]
    named += [f"Python {platform.python_version()}"]
    return ", ".join(named + [f"{name} {_version(name)}" for name in _LIBRARIES])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown)"


def _connection(client: Client) -> Finding:
    began = time.perf_counter()
    client.residency()
    first = time.perf_counter()
    client.residency()
    return Finding(
        "connection",
        f"answers after {1000 * (first - began):.0f} ms, then within "
        f"{1000 * (time.perf_counter() - first):.0f} ms",
    )


def _device(client: Client) -> Finding:
    return Finding("device", _device_text(client.residency()))


def _device_text(residency: Residency) -> str:
    devices = [
        f"{one.name}, {one.used_bytes / _MIB:,.0f} of {one.budget_bytes / _MIB:,.0f} MiB for "
        "models used"
        for one in residency.devices
    ]
    return f"{'; '.join(devices)}, {len(residency.models)} models in memory"


def _weights(client: Client) -> Finding:
    infos = client.models()
    states = Counter(entry.state for info in infos for entry in info.pretrained)
    here = sum(any(one.state == "present" for one in info.pretrained) for info in infos)
    others = (
        "others are downloaded when they are asked for"
        if states["downloadable"]
        else "others are missing, and this server does not download"
    )
    return Finding("weights", f"{here:,} of {len(infos):,} models have theirs here; {others}")


def _round_trip(client: Client, model: str) -> Iterator[Finding]:
    """Send an image that nobody has sent before, and compare its features with a second pass."""
    import numpy as np

    wanted = find_model(client, model)
    # The last module of another model is not known by name.
    modules = [one.name for one in client.modules(wanted) if one.extractable and one.name]
    module = _MODULE if _MODULE in modules else modules[-1]
    resident = {(one.model_id, one.server) for one in client.residency().models}
    pixels = np.random.default_rng().integers(0, 256, (_PIXELS, _PIXELS, 3), dtype=np.uint8)
    images = [("doctor.png", pixels)]
    began = time.perf_counter()
    first = client.extract(wanted, images, module, batch_size=1)
    loaded = time.perf_counter()
    again = client.extract(wanted, images, module, batch_size=1)
    seconds = time.perf_counter() - loaded
    _forget(client, resident)
    rows, other = first.features[module], again.features[module]
    yield Finding("server", _server_text(first.provenance))
    shape = " x ".join(map(str, rows.shape))
    text = (
        f"{1000 * seconds:.0f} ms for {shape} float32 of {wanted}, with its load "
        f"{loaded - began:.1f} s"
    )
    if np.isfinite(rows).all() and np.array_equal(rows, other):
        yield Finding("image", text)
        return
    yield Finding("image", f"{text}; two passes differ, or values are not finite", "report this")


def _server_text(provenance: Provenance) -> str:
    own, found = _version("thingsvision-service"), provenance.server_version
    other = "" if own == found else f"; this client is of {own}: install the same on both sides"
    return f"thingsvision-server {found}, {provenance.framework}, on {provenance.device}{other}"


def _forget(client: Client, resident: set[tuple[str, str]]) -> None:
    """Unload what only this check loaded."""
    for one in client.residency().models:
        if (one.model_id, one.server) not in resident and one.model_id == _MODEL:
            client.unload(one.model, on=one.server or None)
