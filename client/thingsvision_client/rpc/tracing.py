"""A span of OpenTelemetry around each call, if the user's program traces itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..values.version import client_version

Metadata = tuple[tuple[str, str], ...]


def method_name(method: Any) -> str:
    """Return the full name of a method of a stub, as gRPC sends it."""
    name = getattr(method, "_method", b"")
    return (name.decode() if isinstance(name, bytes) else str(name)).lstrip("/")


@contextmanager
def trace_call(name: str, model_id: str) -> Iterator[Metadata]:
    """Yield the metadata that joins the server's spans to the caller's; without a tracer, none.

    The span is not the current span meanwhile: a generator may be left in the middle of it.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield ()
        return
    from opentelemetry import trace
    from opentelemetry.propagate import inject

    tracer = trace.get_tracer("thingsvision-client", client_version())
    attributes = {"rpc.system": "grpc", "thingsvision.model": model_id}
    span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
    carrier: dict[str, str] = {}
    inject(carrier, context=trace.set_span_in_context(span))
    try:
        yield tuple(carrier.items())
    except GeneratorExit:
        raise
    except BaseException as error:
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
        raise
    finally:
        span.end()
