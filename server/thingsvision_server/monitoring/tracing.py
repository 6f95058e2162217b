"""Spans of OpenTelemetry, which join to one trace from the client's call to its forward passes.

They cost nothing unless tracing is on. Variables of OpenTelemetry (OTEL_...) say where spans go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..version import server_version

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NAME = "thingsvision-server"

_tracer: Any = None
"""The tracer of this process; None: tracing is off."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether a variable says where spans go."""
    return any(environment.get(name) for name in _ENDPOINTS)


def export_spans() -> None:
    """Turn tracing on; spans go where the variables of OpenTelemetry say.

    Raises ModuleNotFoundError without the extra `otel`.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource({"service.name": _NAME, "service.version": server_version()})
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use_provider(provider)


def use_provider(provider: Any) -> None:
    """Turn tracing on with a provider of tracers; None turns it off."""
    global _tracer
    _tracer = provider and provider.get_tracer(_NAME, server_version())


def current_trace() -> Any:
    """Return the context of the span in which this runs; None if tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry.context import get_current

    return get_current()


def received_trace(metadata: Mapping[str, Any]) -> Any:
    """Return the context that a caller sent with a call; None if tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry.propagate import extract

    return extract({key: value for key, value in metadata.items() if isinstance(value, str)})


@contextmanager
def span(
    name: str, *, parent: Any = None, beside: Iterable[Any] = (), **attributes: Any
) -> Iterator[None]:
    """Make a span of what the body does, inside `parent` or of the span in which this runs.

    `beside` are contexts whose requests share the work. An error of the body marks the span.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Link, get_current_span

    links = [Link(get_current_span(one).get_span_context()) for one in beside if one is not None]
    named = {f"thingsvision.{key}": value for key, value in attributes.items()}
    with _tracer.start_as_current_span(name, context=parent, links=links, attributes=named):
        yield
