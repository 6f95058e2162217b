"""The alert rules and the dashboards in deploy/box/ ask for metrics that the server publishes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.monitoring import RULES, expressions, published, rule_names, variable_queries
from support.programs import find_program
from support.units import BOX

OURS = re.compile(r"\b(?:thingsvision|grpc_server)_[a-z_]+")


@pytest.mark.parametrize("expression", sorted({*expressions(), *variable_queries()}))
def test_an_expression_asks_for_what_is_published(expression: str) -> None:
    names = set(OURS.findall(expression))
    assert names or "up{" in expression or "envoy_" in expression
    assert names <= published()


@pytest.mark.parametrize(
    ("config", "compose"),
    [
        ("prometheus.yml", "docker-compose.yaml"),
        ("prometheus-cluster.yml", "cluster.compose.yaml"),
    ],
)
def test_prometheus_reads_the_rules(config: str, compose: str) -> None:
    rules = set(yaml.safe_load((BOX / config).read_text())["rule_files"])
    assert rules <= {one.name for one in RULES}
    services = yaml.safe_load((BOX / compose).read_text())["services"]
    mounted = [one.partition(":")[0] for one in services["prometheus"]["volumes"]]
    assert {f"./{name}" for name in (config, *rules)} <= set(mounted)


def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    """With values in the place of Grafana's variables."""
    promtool = find_program("promtool", whence=", which comes with Prometheus")
    queries = [re.sub(r"^label_values\((.*), *\w+\)$", r"\1", one) for one in variable_queries()]
    rules = []
    for place, expression in enumerate(sorted({*expressions(), *queries})):
        plain = re.sub(r"\$__(?:rate_interval|interval|range)\b", "5m", expression)
        plain = re.sub(r"\$\{?\w+(?::\w+)?\}?", "x", plain)
        rules.append({"record": f"expression:{place}", "expr": plain})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    command = [promtool, "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("rules", RULES, ids=lambda one: one.stem)
def test_each_rule_alerts_when_it_should_and_no_sooner(rules: Path, tmp_path: Path) -> None:
    promtool = find_program("promtool", whence=", which comes with Prometheus")
    tests = rules.with_name(f"{rules.stem}_test.yml")
    for file in (rules, tests):
        shutil.copy(file, tmp_path)
    command = [promtool, "test", "rules", tests.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load(tests.read_text())["tests"]
    named = [one for test in tested for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in named if one["exp_alerts"]} == rule_names(rules)
