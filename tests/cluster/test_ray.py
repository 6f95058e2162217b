"""deploy/ray/: a replica's server starts, says how it is, and ends; the policy counts servers.

Ray itself is not installed here; docs/cluster.md says what was run with it.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from support.checkout import CHECKOUT
from support.cluster import make_certificates
from thingsvision_server.settings.reading import parse_settings

RAY = CHECKOUT / "deploy" / "ray"
CONFIG = yaml.safe_load((RAY / "serve.yaml").read_text())
(APPLICATION,) = CONFIG["applications"]
(DEPLOYMENT,) = APPLICATION["deployments"]


def load(name: str) -> ModuleType:
    """Import a module of deploy/ray/, whose folder must not be found as `ray` by others."""
    spec = importlib.util.spec_from_file_location(name, RAY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    path = [*sys.path]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


server_process, busy_share = load("server_process"), load("busy_share")


def test_servers_start_with_the_options_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = server_process.ServerOptions(tmp_path, APPLICATION["args"]["options"])
    for name, value in options.environment().items():
        monkeypatch.setenv(name, value)
    settings = parse_settings([])
    assert not settings.tcp
    assert settings.metrics_port == "auto"
    assert settings.node_share == 0.25
    waits = settings.drain_seconds + settings.lame_duck_seconds + server_process._MORE_SECONDS
    assert DEPLOYMENT["graceful_shutdown_timeout_s"] > waits


def test_ray_finds_what_the_file_names() -> None:
    module, _, function = APPLICATION["import_path"].partition(":")
    assert f"def {function}(" in (RAY / f"{module}.py").read_text()
    policy = DEPLOYMENT["autoscaling_config"]["policy"]
    name, _, kind = policy["policy_function"].partition(":")
    assert name == busy_share.__name__
    getattr(busy_share, kind)(**policy["policy_kwargs"])
    assert CONFIG["proxy_location"] == "Disabled"
    schema = pytest.importorskip("ray.serve.schema", reason="Ray is not installed")
    schema.ServeDeploySchema.model_validate(CONFIG)


def test_options_must_not_open_another_way_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave THINGSVISION_PORT out"):
        server_process.ServerOptions(tmp_path, {"THINGSVISION_PORT": "1"}).environment()


@pytest.mark.parametrize(
    ("shares", "wanted", "count"),
    [
        ([0.7, 0.7], 2, 2),
        ([1.0, 1.0], 2, 3),
        ([0.1, 0.1, 0.1], 3, 1),
        ([0.0], 1, 1),
        # Silent servers may be idle, or busy: neither starts more nor ends any.
        ([0.6], 3, 3),
        ([1.0, 1.0, 1.0], 4, 5),
        ([0.0, 0.0, 0.0], 4, 2),
        ([], 2, 2),
    ],
)
def test_so_many_servers_that_devices_are_busy(
    shares: list[float], wanted: int, count: int
) -> None:
    policy = busy_share.BusyShare(0.7)
    assert policy.count(shares, wanted) == count
    told = {f"replica {number}": share for number, share in enumerate(shares)}
    context = SimpleNamespace(
        aggregated_metrics={"busy_share": told} if told else {}, target_num_replicas=wanted
    )
    assert policy(context) == (count, {})


@pytest.mark.parametrize("target", [0, 1.1, -1])
def test_a_target_is_a_share(target: float) -> None:
    with pytest.raises(ValueError, match="`target` must be above 0 and at most 1"):
        busy_share.BusyShare(target)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("lab")
    make_certificates(home)
    chosen = {
        "HOST": "127.0.0.1",
        "METRICS_HOST": "127.0.0.1",
        "DEVICE": "cpu",
        "WARM_GUESTS": "false",
    }
    named = {f"THINGSVISION_{name}": value for name, value in chosen.items()}
    program = (sys.executable, "-m", "thingsvision_server")
    return server_process.ServerOptions(home, named, program)


def test_a_replica_runs_a_server_and_ends_with_it(options: Any) -> None:
    codes: list[int] = []
    ended = threading.Event()

    def note(code: int) -> None:
        codes.append(code)
        ended.set()

    server = server_process.ServerProcess(options)
    server.start(note)
    try:
        server.check_health()
        (file,) = (options.home / "announced").glob("*.json")
        assert server.address in file.read_text()
        assert 0 <= server.busy_share() <= 1
        psutil.Process(server.process_id).kill()
        assert ended.wait(60)
        assert codes == [-9]
        with pytest.raises(RuntimeError, match="has ended"):
            server.check_health()
    finally:
        server.end()


def test_a_server_that_cannot_start_is_an_error(options: Any) -> None:
    wrong = dict(options.options) | {"THINGSVISION_NODE_SHARE": "3"}
    other = server_process.ServerOptions(options.home, wrong, options.program)
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        server_process.ServerProcess(other).start(lambda _code: None)
