"""The Prometheus metrics of each person, where the operator allows names (`--metrics-people`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .usage import OTHERS, Usage, UsageBook

_PREFIX = "thingsvision_person_"

_COUNTERS = {
    "device_seconds": "Seconds of the whole device",
    "decode_seconds": "Seconds of the threads that decode and preprocess images",
    "computation_seconds": "Seconds of RDMs, PCAs and checks of uploaded files",
    "wait_seconds": "Seconds that images waited for the device, added up over images",
    "stalled_seconds": "Seconds that calls waited for their client to send or to read, added up",
    "image_count": "Images whose rows were computed",
    "received_bytes": "Bytes of images, features and files that the person sent",
    "sent_bytes": "Bytes of replies",
}
_GAUGES = {
    "queued_count": "Images that are ready and wait for the device",
    "call_count": "Calls in progress",
}
_NAMES = {"image_count": "images", "queued_count": "queue_depth", "call_count": "calls"}
"""Names of metrics that differ from the field."""


class PeopleCollector(Collector):
    """Publishes the usage of at most `shown` people by name, and of all later ones as `other`."""

    def __init__(self, book: UsageBook, shown: int) -> None:
        self._book = book
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, each with a row for each name."""
        labelled = self._labelled()
        for field, text in _COUNTERS.items():
            yield _fill(CounterMetricFamily(_name(field), text, labels=["person"]), field, labelled)
        for field, text in _GAUGES.items():
            yield _fill(GaugeMetricFamily(_name(field), text, labels=["person"]), field, labelled)
        refused = CounterMetricFamily(
            f"{_PREFIX}refused", "Calls refused or ended by the server, by error",
            labels=["person", "reason"],
        )  # fmt: skip
        for name, usages in labelled.items():
            for reason in sorted({reason for one in usages for reason in one.refusals}):
                refused.add_metric([name, reason], sum(one.refusals[reason] for one in usages))
        yield refused

    def _labelled(self) -> Mapping[str, list[Usage]]:
        """Return the usages by label; a name keeps its label, because counters must not shrink."""
        found: dict[str, list[Usage]] = {}
        for place, (name, usage) in enumerate(self._book.copy().items()):
            found.setdefault(name if place < self._shown else OTHERS, []).append(usage)
        return found


def _name(field: str) -> str:
    return _PREFIX + _NAMES.get(field, field)


def _fill(
    family: CounterMetricFamily | GaugeMetricFamily, field: str, labelled: Mapping[str, list[Usage]]
) -> Metric:
    for name, usages in labelled.items():
        family.add_metric([name], sum(getattr(one, field) for one in usages))
    return family
