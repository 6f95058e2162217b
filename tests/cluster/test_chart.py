"""deploy/kubernetes/: Helm makes of the chart what Kubernetes and Envoy accept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import CHECKOUT
from support.cluster import envoy_program, make_certificates
from support.monitoring import RULES, adapter_rules, published
from support.programs import find_program
from thingsvision_server.settings.reading import parse_settings

CHART = CHECKOUT / "deploy" / "kubernetes"
ALL = (
    "autoscaling.enabled=true",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=prometheus",
    "gpus=2",
)
OPERATOR = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
VERSION = "1.33"


@pytest.fixture(scope="module", params=[(), ALL], ids=["defaults", "all parts"])
def made(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What Helm makes of the chart."""
    helm = find_program("helm")
    command = [helm, "template", "lab", CHART, *(f"--set={one}" for one in request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(made: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in made if one["kind"] == kind]


def test_kubernetes_accepts_each_object(made: list[dict[str, Any]]) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    standard = [one for one in made if one["kind"] not in OPERATOR]
    for one in standard:
        validate(one, VERSION, strict=True)
    assert len(standard) >= 9


def test_envoy_accepts_its_configuration(made: list[dict[str, Any]], tmp_path: Path) -> None:
    (config,) = of_kind(made, "ConfigMap")
    make_certificates(tmp_path / "etc")
    text = config["data"]["envoy.yaml"].replace("/etc/thingsvision", str(tmp_path / "etc"))
    clusters = yaml.safe_load(text)["static_resources"]["clusters"]
    assert [one["type"] for one in clusters] == ["STRICT_DNS", "STRICT_DNS", "STATIC"]
    assert "lab-server" in str(clusters[0]["load_assignment"])
    assert clusters[0]["load_assignment"] == clusters[1]["load_assignment"]
    (tmp_path / "envoy.yaml").write_text(text)
    command = [envoy_program(), "--mode", "validate", "--config-path", tmp_path / "envoy.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_servers_start_with_their_options(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (servers,) = of_kind(made, "StatefulSet")
    spec = servers["spec"]["template"]["spec"]
    for one in spec["containers"][0]["env"]:
        monkeypatch.setenv(one["name"], one.get("value", "10.0.0.7"))
    settings = parse_settings([])
    assert not settings.tcp
    assert settings.announce_address == "10.0.0.7"
    waits = settings.drain_seconds + settings.lame_duck_seconds
    assert spec["terminationGracePeriodSeconds"] > waits + 10
    assert spec["enableServiceLinks"] is False


def test_what_the_gateways_read_is_in_the_secret(
    made: list[dict[str, Any]], tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    there = {one.name for folder in (tmp_path, tmp_path / "gateway") for one in folder.iterdir()}
    for one in (*of_kind(made, "Deployment"), *of_kind(made, "StatefulSet")):
        volumes = one["spec"]["template"]["spec"]["volumes"]
        (items,) = (volume["secret"]["items"] for volume in volumes if "secret" in volume)
        assert {item["key"] for item in items} <= there


def test_prometheus_watches_servers_and_gateways(made: list[dict[str, Any]]) -> None:
    monitors = [one for one in made if one["kind"] in OPERATOR]
    if not monitors:
        assert "HorizontalPodAutoscaler" not in {one["kind"] for one in made}
        return
    assert {one["metadata"]["labels"]["release"] for one in monitors} == {"prometheus"}
    servers, gateways, rules = (
        one["spec"]
        for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule")
        for one in of_kind(monitors, kind)
    )
    (service,) = (one for one in of_kind(made, "Service") if one["spec"].get("clusterIP"))
    assert servers["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (deployment,) = of_kind(made, "Deployment")
    pods = deployment["spec"]["template"]["metadata"]["labels"]
    assert gateways["selector"]["matchLabels"].items() <= pods.items()
    jobs = [
        one["relabelings"]
        for one in (*servers["endpoints"], *gateways["podMetricsEndpoints"])
        if one["port"] == "metrics"
    ]
    assert jobs == [
        [{"targetLabel": "job", "replacement": name}]
        for name in ("thingsvision", "thingsvision-gateway")
    ]
    wanted = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    assert rules["groups"] == wanted


def test_the_adapter_has_what_the_autoscaler_asks_for(made: list[dict[str, Any]]) -> None:
    rules = {one["name"]["as"]: one for one in adapter_rules()}
    assert {re.match(r"\w+", one["seriesQuery"])[0] for one in rules.values()} <= published()  # type: ignore[index]
    for scaler in of_kind(made, "HorizontalPodAutoscaler"):
        asked = {one["pods"]["metric"]["name"]: one["pods"] for one in scaler["spec"]["metrics"]}
        assert set(asked) == set(rules)
        assert asked["thingsvision_busy_share"]["target"]["averageValue"] == "700m"
        assert scaler["spec"]["scaleTargetRef"]["name"] == "lab-server"
