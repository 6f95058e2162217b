"""Prometheus itself reads deploy/box/: its configuration, its targets, and what dashboards ask."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, cluster_of, until
from support.lab import Lab
from support.monitoring import RULES, expressions
from support.programs import find_program
from support.server_process import free_port
from support.units import BOX
from thingsvision_server.access.scopes import Scope
from thingsvision_server.cluster.commands import app

VARIABLES = {
    "$job": "thingsvision",
    "$gateway_job": "thingsvision-gateway",
    "$instance": ".*",
    "[$__rate_interval]": "[1m]",
}


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, **fields: str) -> Any:
        """Return the answer of its API, data or an error."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            return json.load(error)["error"]

    def healths(self) -> dict[str, str]:
        """Return the health of each target, by its job and address."""
        found = self.ask("targets")["activeTargets"]
        return {
            f"{one['labels']['job']} {one['labels']['instance']}": one["health"] + one["lastError"]
            for one in found
        }


@contextmanager
def prometheus_of(config: Path) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration."""
    program, port = find_program("prometheus"), free_port()
    command = [program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    log = config.with_name("prometheus.log")
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={config.with_name('data')}"], stderr=written
        )
    running = Prometheus(f"http://127.0.0.1:{port}", process, log)
    try:
        until(lambda: is_ready(running), "Prometheus starts", 60)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def is_ready(running: Prometheus) -> bool:
    assert running.process.poll() is None, running.log.read_text()
    try:
        urllib.request.urlopen(f"{running.address}/-/ready", timeout=10).close()
    except OSError:  # nothing listens yet, or it says that it is not ready
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two servers whose pages other machines could reach, behind a gateway."""
    options = {"metrics_host": "0.0.0.0", "metrics_port": "auto", "metrics_people": 5}
    folder = tmp_path_factory.mktemp("watched")
    with cluster_of(folder, "first", "second", **options) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> Iterator[Prometheus]:
    """A Prometheus that finds the servers by the file of `thingsvision-server endpoints`."""
    find_program("prometheus")
    folder = cluster.folder / "prometheus"
    folder.mkdir()
    targets = folder / "thingsvision.json"
    flags = [f"--announce-dir={cluster.folder / 'announced'}", f"--prometheus={targets}"]
    app([*flags, "--once"], standalone_mode=False)
    token = Lab(cluster.files, None).add_token("prometheus", Scope.READ)  # type: ignore[arg-type]
    (folder / "token").write_text(token)
    gateway = f"127.0.0.1:{cluster.gateways[0].ports['9902']}"
    with prometheus_of(write_config(folder, cluster.files / "ca.pem", gateway)) as running:
        yield running


def write_config(folder: Path, ca: Path, gateway: str) -> Path:
    """Write deploy/box/prometheus-cluster.yml for the files in a folder."""
    text = (BOX / "prometheus-cluster.yml").read_text()
    for old, new in {
        "/etc/prometheus/token": str(folder / "token"),
        "/etc/prometheus/ca.pem": str(ca),
        "/targets/": f"{folder}/",
        "127.0.0.1:9902": gateway,
        "scrape_interval: 15s": "scrape_interval: 1s",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    for file in RULES:
        shutil.copy(file, folder)
    config = folder / "prometheus.yml"
    config.write_text(text)
    return config


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    promtool = find_program("promtool", whence=", which comes with Prometheus")
    for name in ("token", "ca.pem"):
        (tmp_path / name).touch()
    (tmp_path / "thingsvision.json").write_text("[]")
    config = write_config(tmp_path, tmp_path / "ca.pem", "127.0.0.1:9902")
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout
    (tmp_path / "token").unlink()
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True)
    assert done.returncode != 0


def test_all_targets_are_up(prometheus: Prometheus) -> None:
    until(lambda: set(prometheus.healths().values()) == {"up"}, str(prometheus.healths()), 60)
    assert sorted(one.split()[0] for one in prometheus.healths()) == [
        "thingsvision",
        "thingsvision",
        "thingsvision-gateway",
    ]


def test_prometheus_runs_what_dashboards_and_alerts_ask(prometheus: Prometheus) -> None:
    refused = {}
    asked = [*expressions()]
    assert len(asked) > 60
    for expression in asked:
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        answer = prometheus.ask("query", query=expression)
        if isinstance(answer, str):
            refused[expression] = answer
    assert refused == {}
    assert isinstance(prometheus.ask("query", query="sum by (job"), str)
    states = prometheus.ask("rules")["groups"]
    assert {rule["health"] for group in states for rule in group["rules"]} <= {"ok", "unknown"}


def test_the_gateway_has_what_dashboards_and_alerts_ask_for(cluster: Cluster) -> None:
    gateway = cluster.gateways[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.ports['9902']}/metrics") as answer:
        page = answer.read().decode()
    there = set(re.findall(r"^(envoy_\w+)", page, re.MULTILINE))
    # A name stands before the braces of its labels.
    wanted = {name for one in expressions() for name in re.findall(r"\b(envoy_\w+)\{", one)}
    assert len(wanted) > 10
    assert wanted - there == set()
