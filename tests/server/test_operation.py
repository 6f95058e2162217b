"""What an operator relies on: health, reflection, metrics, the log, and shutdown."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.open_request import OpenRequest
from support.server_process import ServerProcess, server_process
from support.stock_calls import image
from thingsvision_client import Client, Model
from thingsvision_client.errors import DrainingError, ImageError, UnavailableError

OURS = ("thingsvision.v1.FeatureService", "thingsvision.v1.ModelService")
MODEL = Model("torchvision", "squeezenet1_1", "random:0")

METRICS = [
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_handling_seconds",
    "model_load_seconds",
    "model_unload_seconds",
    "model_loads_total",
    "model_evictions_total",
    "model_age_at_eviction_seconds",
    "residency_used_bytes",
    "residency_capacity_bytes",
    "residency_reserved_bytes",
    "residency_lru_age_seconds",
    "residency_host_used_bytes",
    "residency_host_capacity_bytes",
    "model_resident_bytes",
    "load_waiters",
    "queue_depth",
    "queue_wait_seconds",
    "batch_images",
    "batch_fill_ratio",
    "decode_seconds",
    "preprocess_seconds",
    "forward_seconds",
    "copy_seconds",
    "encode_seconds",
    "send_blocked_seconds",
    "images_total",
    "activation_bytes_total",
    "cancelled_images_total",
    "rejected_total",
    "device_memory_used_bytes",
    "device_memory_total_bytes",
    "device_memory_bytes",
    "device_busy_seconds_total",
    "queue_oldest_seconds",
    "draining",
    "transfer_wait_seconds",
    "pass_waits_total",
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("operation")) as running:
        yield running


@pytest.fixture(scope="module")
def worked(process: ServerProcess, photos: list[Path]) -> ServerProcess:
    """The server after some work: a good request, a bad one, an RDM, an unload."""
    with Client(process.address) as client:
        client.extract(MODEL, photos[:2], ["features.0", "features.12"])
        client.rdm(MODEL, photos[:2], "features.12")
        with pytest.raises(ImageError):
            client.extract(MODEL, [("bad", b"x")], "features.0")
        client.unload(MODEL)
    return process


@pytest.mark.parametrize("service", ["", *OURS])
def test_health_is_reported_overall_and_by_service(process: ServerProcess, service: str) -> None:
    with grpc.insecure_channel(process.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(process: ServerProcess) -> None:
    with grpc.insecure_channel(process.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nonsense"), timeout=30)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_every_service_and_gives_the_contract(process: ServerProcess) -> None:
    with grpc.insecure_channel(process.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=OURS[0]),
        ]
        listed, described = stub.ServerReflectionInfo(iter(asked), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {*OURS, "grpc.health.v1.Health"}
    assert described.file_descriptor_response.file_descriptor_proto


def test_the_device_is_busy_while_it_works_and_its_memory_has_kinds(worked: ServerProcess) -> None:
    busy = worked.figure("thingsvision_device_busy_seconds_total")
    passes = worked.figure("thingsvision_forward_seconds_sum")
    assert 0 < 0.5 * passes < busy < worked.figure("grpc_server_handling_seconds_sum") + 60
    with urllib.request.urlopen(worked.metrics_url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    name = "thingsvision_device_memory_bytes"
    kinds = {line.split('"')[1]: float(line.split()[1]) for line in lines if line.startswith(name)}
    assert set(kinds) == {"models", "passes", "staging", "templates", "others"}
    # Nothing runs, and the model was unloaded.
    assert kinds["models"] == kinds["passes"] == 0
    total = worked.figure("thingsvision_device_memory_total_bytes")
    assert 0 <= kinds["others"] <= total


def test_every_metric_is_published(worked: ServerProcess) -> None:
    with urllib.request.urlopen(worked.metrics_url, timeout=30) as page:
        text = page.read().decode()
    published = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    wanted = {name if name.startswith("grpc_") else f"thingsvision_{name}" for name in METRICS}
    assert wanted <= published
    label_names = {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}
    label_names |= {"le", "result", "reason", "model", "kind"}
    for line in text.splitlines():
        labels = line[line.find("{") + 1 : line.rfind("}")] if "{" in line else ""
        assert {pair.split("=")[0] for pair in labels.split(",") if pair} <= label_names, line


def test_the_metrics_count_the_work(worked: ServerProcess) -> None:
    figure = worked.figure
    assert figure("thingsvision_images_total") == 4
    assert (
        figure("thingsvision_activation_bytes_total")
        == 2 * 4 * (64 * 111 * 111 + 512 * 13 * 13) + 2 * 4 * 512 * 13 * 13
    )
    assert figure("thingsvision_model_loads_total") == 1
    assert figure("thingsvision_model_evictions_total") == 1
    assert figure("thingsvision_model_load_seconds_count") == 1
    assert figure("thingsvision_decode_seconds_count") == 4
    assert figure("thingsvision_residency_used_bytes") == 0
    assert figure("thingsvision_residency_capacity_bytes") > 0
    # The four calls; two of them asked first which photographs the server has.
    assert figure("grpc_server_started_total") == figure("grpc_server_handled_total") == 6


def test_a_request_is_one_line_of_the_log(worked: ServerProcess, photos: list[Path]) -> None:
    lines = [json.loads(line) for line in worked.log.splitlines() if line.startswith("{")]
    good, bad = (line for line in lines if line["event"] == "Extract")
    assert len(good["id"]) == 32
    assert good["client"].startswith("ipv4:127.0.0.1:")
    assert good["model"] == str(MODEL)
    assert good["modules"] == ["features.0", "features.12"]
    assert good["images"] == 2
    assert good["image_bytes"] == sum(path.stat().st_size for path in photos[:2])
    assert good["status"] == "OK"
    for step in ("decode", "wait", "forward", "send"):
        assert good[f"{step}_seconds"] >= 0
    assert good["forward_seconds"] > 0
    assert good["seconds"] >= good["forward_seconds"]
    assert (bad["status"], bad["skipped"]) == ("OK", 1)
    assert bad["first_skipped"].startswith("image 0 is not a JPEG")
    (compared,) = (line for line in lines if line["event"] == "ComputeRDM")
    assert (compared["metric"], compared["images"]) == ("correlation", 2)


def test_the_queue_depth_counts_waiting_images(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    """If a client stops reading, the device stops, and images wait for it."""
    count, depth = 30, "thingsvision_queue_depth"
    with start_server() as server:
        figure = server.running.metrics.registry.get_sample_value
        assert figure(depth) == 0
        running = OpenRequest(server.address)
        for index in range(count):
            running.send(image(index, f"{index}", photos[0].read_bytes()))
        deadline = time.monotonic() + 60
        while figure(depth) == 0:
            assert time.monotonic() < deadline, "no image ever waited"
            time.sleep(0.01)
        assert figure(depth) < count, "the queue has a bound"
        running.send(None)
        assert [reply.WhichOneof("part") for reply in running.replies][-1] == "trailer"
        running.close()
        assert figure(depth) == 0
        assert figure("thingsvision_images_total") == count


def call_until_refused(client: Client) -> None:
    """The signal takes a moment to arrive."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        client.residency()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_stops_refuses_new_calls_and_finishes_running_ones(
    tmp_path: Path, photos: list[Path], number: signal.Signals
) -> None:
    with server_process(tmp_path, drain_seconds=60) as server:
        running = OpenRequest(server.address)
        with Client(server.address) as client:
            client.residency()
            server.process.send_signal(number)
            with pytest.raises(DrainingError):
                call_until_refused(client)
        running.send(image(0, "a", photos[0].read_bytes()))
        running.send(None)
        assert [reply.WhichOneof("part") for reply in running.replies][-1] == "trailer"
        running.close()
        assert server.process.wait(30) in (0, None)
    # `server_process` asserts the exit code 0


def test_a_call_that_takes_too_long_is_ended_as_unavailable(
    tmp_path: Path, photos: list[Path]
) -> None:
    with server_process(tmp_path, drain_seconds=0.5) as server:
        running = OpenRequest(server.address)
        running.send(image(0, "a", photos[0].read_bytes()))
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            list(running.replies)
        running.close()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "try again" in caught.value.details()
        server.process.wait(30)
        with Client(server.address, timeout=10) as client, pytest.raises(UnavailableError):
            client.residency()


@pytest.mark.parametrize("which", ["port", "metrics-port"])
def test_a_taken_port_ends_the_server_with_a_sentence(tmp_path: Path, which: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        flags = ["--port=0", "--metrics-port=0", f"--{which}={taken}"]
        done = subprocess.run(
            [sys.executable, "-m", "thingsvision_server", *flags, f"--weights-dir={tmp_path}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(taken) in done.stderr
