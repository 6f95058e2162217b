"""The clock of a device's work, and the metric that it keeps."""

from __future__ import annotations

import time

from thingsvision_server.engine.passes.busy_clock import BusyClock
from thingsvision_server.monitoring.metrics import Metrics

NAME = "thingsvision_device_busy_seconds_total"


def test_a_pass_is_counted_while_it_runs() -> None:
    metrics = Metrics()
    clock = BusyClock(metrics.busy_seconds.inc)
    metrics.before_reading(clock.note)
    assert metrics.registry.get_sample_value(NAME) == 0
    started = time.monotonic()
    clock.begin()
    clock.begin()  # another lane's, which adds nothing
    time.sleep(0.02)
    seen = metrics.registry.get_sample_value(NAME)
    assert seen is not None
    assert 0.02 <= seen <= time.monotonic() - started
    clock.end()
    clock.end()
    passed = time.monotonic() - started
    ended = metrics.registry.get_sample_value(NAME)
    assert ended is not None
    assert seen <= ended <= passed
    time.sleep(0.01)
    assert metrics.registry.get_sample_value(NAME) == ended
