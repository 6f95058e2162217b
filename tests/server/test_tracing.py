"""One trace leads from a client's call to its load and its forward passes."""

from __future__ import annotations

import gzip
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.server_process import server_process
from thingsvision_client import Client
from thingsvision_client.errors import UnknownModuleError
from thingsvision_server.monitoring import tracing

MODEL, MODULE = "torchvision/squeezenet1_1@random:77", "features.2"


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """The provider of this process, which OpenTelemetry lets nobody replace."""
    made = TracerProvider()
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_provider(provider)
    yield exporter
    tracing.use_provider(None)


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def ids(span: ReadableSpan) -> tuple[int, int | None]:
    """Return the span's id and that of its parent."""
    assert span.context
    return span.context.span_id, span.parent and span.parent.span_id


def test_a_trace_leads_from_the_call_to_the_pass(
    spans: InMemorySpanExporter, client: Client, photos: list[Path]
) -> None:
    client.extract(MODEL, photos[:3], MODULE, batch_size=2)
    called, served = named(spans, "thingsvision.v1.FeatureService/Extract")[::-1]
    (load,) = named(spans, "load model")
    passes = named(spans, "forward pass")
    assert ids(served)[1] == ids(called)[0]
    assert {ids(one)[1] for one in [load, *passes]} == {ids(served)[0]}
    assert [one.attributes and one.attributes["thingsvision.images"] for one in passes] == [2, 1]
    assert load.attributes == {"thingsvision.model": MODEL}
    assert len({one.context.trace_id for one in [called, served, load, *passes]}) == 1  # type: ignore[union-attr]


def test_a_computation_and_an_error_are_in_their_traces(
    spans: InMemorySpanExporter, client: Client, photos: list[Path]
) -> None:
    client.rdm(MODEL, photos[:3], MODULE)
    _, served = named(spans, "thingsvision.v1.FeatureService/ComputeRDM")[::-1]
    (computed,) = named(spans, "compute")
    assert ids(computed)[1] == ids(served)[0]
    with pytest.raises(UnknownModuleError):
        client.extract(MODEL, photos[:1], "nowhere")
    failed = named(spans, "thingsvision.v1.FeatureService/Extract")
    assert [one.status.status_code for one in failed] == [trace.StatusCode.ERROR] * 2
    assert "nowhere" in str(failed[0].status.description)


def test_without_tracing_nothing_is_sent_or_made(
    client: Client, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(trace, "get_tracer", lambda *_: called.append(_))
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    client.extract(MODEL, photos[:1], MODULE)
    assert called == []
    assert tracing.current_trace() is None


class Collector(BaseHTTPRequestHandler):
    """Takes spans as OpenTelemetry sends them over HTTP."""

    received: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(gzip.decompress(body) if "Content-Encoding" in self.headers else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def send_spans_to(address: str) -> None:
    os.environ.update(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="100")


def test_a_server_sends_its_spans_where_the_variables_say(
    tmp_path: Path, photos: list[Path]
) -> None:
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        before = partial(send_spans_to, f"http://127.0.0.1:{collector.server_port}")
        with (
            server_process(tmp_path, before=before) as server,
            Client(server.address) as client,
        ):
            client.extract(MODEL, photos[:1], MODULE)
            until = time.monotonic() + 30
            while b"forward pass" not in b"".join(Collector.received):
                assert time.monotonic() < until, "no span arrived"
                time.sleep(0.05)
        collector.shutdown()
    assert b"thingsvision-server" in b"".join(Collector.received)
