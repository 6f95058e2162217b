"""What the dashboards and alert rules of deploy/box/ ask for, and what a server publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.checkout import CHECKOUT
from support.units import BOX
from thingsvision_server.monitoring.metrics import Metrics

BOARDS = sorted(BOX.glob("grafana-*.json"))
RULES = [BOX / "alerts.yml", BOX / "alerts-cluster.yml"]


def rule_names(file: Path) -> set[str]:
    """Return the names of the alerts in a file of rules."""
    rules = yaml.safe_load(file.read_text())
    return {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def expressions() -> Iterator[str]:
    """Yield each expression of all dashboards, alerts and rules of prometheus-adapter."""
    for file in BOARDS:
        board = json.loads(file.read_text())
        yield from (one["expr"] for panel in board["panels"] for one in panel["targets"])
    for file in RULES:
        rules = yaml.safe_load(file.read_text())
        yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])

    yield from (fill_in(rule["metricsQuery"]) for rule in adapter_rules())


def adapter_rules() -> list[Any]:
    """Return the rules of prometheus-adapter for the autoscaler."""
    file = CHECKOUT / "deploy" / "kubernetes" / "files" / "adapter-rules.yaml"
    found: list[Any] = yaml.safe_load(file.read_text())
    return found


def fill_in(query: str) -> str:
    """Return a query of the adapter as Prometheus gets it, for some pods."""
    places = {"<<.LabelMatchers>>": 'namespace="lab",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    for place, value in places.items():
        query = query.replace(place, value)
    return query


def variable_queries() -> Iterator[str]:
    """Yield what the dashboards ask for to fill their variables."""
    for file in BOARDS:
        variables = json.loads(file.read_text())["templating"]["list"]
        yield from (one["query"] for one in variables if one["type"] == "query")


def published() -> set[str]:
    """Return the names of all series that a server publishes."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        family.name + suffix
        for family in Metrics(shown_people=1).registry.collect()
        for suffix in suffixes[family.type]
    }
