"""deploy/box/: what its units start is one service, and what reads its files accepts them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from support.cluster import ENVOY_FILES, make_certificates, until
from support.lab import Lab
from support.server_process import free_port
from support.units import BOX, started_unit, unit_lines
from thingsvision_client import Client
from thingsvision_client.errors import UnavailableError
from thingsvision_server.access.scopes import Scope
from thingsvision_server.settings.reading import parse_settings

UNITS = sorted(BOX.glob("*.service"))
MODELS = [f"torchvision/squeezenet1_1@random:{seed}" for seed in range(4)]
MODULE = "features.0"


@contextmanager
def box(folder: Path) -> Iterator[str]:
    """Set a box up as docs/cluster.md says, with two devices; yield the gateway's address."""
    etc, var = folder / "etc", folder / "var"
    make_certificates(etc)
    (var / "announced").mkdir(parents=True)
    ports = {name: str(free_port()) for name in ("50051", "9901", "9902")}
    paths = {"/etc/thingsvision": str(etc), "/var/lib/thingsvision": str(var)}
    paths |= {"lame_duck_seconds = 5": "lame_duck_seconds = 0"}
    moved = {f"port_value: {old}": f"port_value: {new}" for old, new in ports.items()}
    for source in (ENVOY_FILES / "envoy.yaml", BOX / "device.toml"):
        text = source.read_text()
        for old, new in (paths | moved).items():
            text = text.replace(old, new)
        (etc / source.name).write_text(text)
    with ExitStack() as stack:
        stack.enter_context(started_unit("thingsvision-endpoints.service", folder, paths))
        stack.enter_context(started_unit("thingsvision-gateway.service", folder, paths))
        for device in "01":
            metrics = {f"--metrics-port 910{device}": f"--metrics-port {free_port()}"}
            unit = started_unit("thingsvision-device@.service", folder, paths | metrics, device)
            stack.enter_context(unit)
        yield f"grpcs://localhost:{ports['50051']}"


def test_the_units_of_a_box_are_one_service(tmp_path: Path, photos: list[Path]) -> None:
    with box(tmp_path) as address:
        token = Lab(tmp_path / "etc", None).add_token("ada", Scope.ADMIN)  # type: ignore[arg-type]
        with Client(address, token=token, ca=tmp_path / "etc" / "ca.pem") as client:
            until(lambda: server_count(client) == 2, "both servers are announced", 60)
            rows = [client.extract(one, photos[:1], MODULE).features[MODULE] for one in MODELS]
            assert {one.shape[0] for one in rows} == {1}
            client.pin(MODELS[0], on="all")
            listed = json.loads((tmp_path / "var" / "targets.json").read_text())
            assert len(listed) == 2
            until(lambda: gateway_knows(tmp_path) == 2, "the endpoints are written")


def server_count(client: Client) -> int:
    try:
        return len(client.residency().servers)
    except UnavailableError:
        return 0


def gateway_knows(folder: Path) -> int:
    path = folder / "etc" / "gateway" / "endpoints" / "endpoints.json"
    (resource,) = json.loads(path.read_text())["resources"]
    return sum(len(one["lb_endpoints"]) for one in resource["endpoints"])


@pytest.mark.parametrize("unit", UNITS, ids=lambda one: one.name)
def test_systemd_accepts_a_unit(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze, which comes with systemd")
    name = unit.name.replace("@.", "@0.")
    (tmp_path / name).write_text(unit.read_text().replace("/opt/thingsvision/bin/", "/bin/true "))
    done = subprocess.run([program, "verify", tmp_path / name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_units_wait_longer_than_servers_drain() -> None:
    settings = parse_settings([f"--config={BOX / 'device.toml'}"])
    (seconds,) = unit_lines("thingsvision-device@.service", "TimeoutStopSec")
    assert int(seconds) > settings.drain_seconds + settings.lame_duck_seconds + 10
    text = yaml.safe_load((BOX / "cluster.compose.yaml").read_text())
    grace = text["services"]["gpu0"]["stop_grace_period"]
    drain = text["services"]["gpu0"]["environment"]["THINGSVISION_DRAIN_SECONDS"]
    assert int(grace.removesuffix("s")) > float(drain) + 5 + 10


def test_the_servers_of_the_compose_file_start_with_their_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = yaml.safe_load((BOX / "cluster.compose.yaml").read_text())["services"]
    devices = [name for name in services if name.startswith("gpu")]
    for name, value in services["gpu0"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = parse_settings([])
    assert settings.node_share == 1 / len(devices)
    assert settings.mtls_port == 50051
    assert not settings.tcp
    assert services["endpoints"]["depends_on"] == devices
