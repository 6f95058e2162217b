"""The Prometheus metrics that the server publishes, in base units.

No label identifies an image or a request; a person is named only where the operator allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .people import PeopleCollector
from .usage import UsageBook

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_GRPC = ("grpc_type", "grpc_service", "grpc_method")


class _BeforeReading(Collector):
    """Calls functions when the metrics are read, and has none of its own."""

    def __init__(self) -> None:
        self.functions: list[Callable[[], object]] = []

    def collect(self) -> Iterable[Metric]:
        """Call the functions."""
        for function in self.functions:
            function()
        return ()


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, shown_people: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._noting = _BeforeReading()
        # The first collector of a registry is asked first.
        self.registry.register(self._noting)
        self.people = UsageBook()
        """What each person uses; metrics show at most `shown_people` of them by name, 0: none."""
        if shown_people:
            self.registry.register(PeopleCollector(self.people, shown_people))
        self._make_grpc()
        self._make_loads()
        self._make_residency()
        self._make_device()
        self._make_queue()
        self._make_stages()
        self._make_totals()

    def before_reading(self, note: Callable[[], object]) -> None:
        """Call a function each time before the metrics are read."""
        self._noting.functions.append(note)

    def _make_grpc(self) -> None:
        self.grpc_started = self._counter("grpc_server_started", "Calls started", *_GRPC)
        self.grpc_handled = self._counter(
            "grpc_server_handled", "Calls ended, by status", *_GRPC, "grpc_code"
        )
        self.grpc_received = self._counter("grpc_server_msg_received", "Messages received", *_GRPC)
        self.grpc_sent = self._counter("grpc_server_msg_sent", "Messages sent", *_GRPC)
        self.grpc_seconds = self._histogram(
            "grpc_server_handling_seconds", "Time of calls", *_GRPC, "grpc_code"
        )
        self.rejected = self._counter(
            "thingsvision_rejected", "Calls rejected before any work, by reason", "reason"
        )
        self.draining = self._gauge(
            "thingsvision_draining", "1 while the server drains: it takes no new calls, and ends"
        )
        self.broken_files = self._gauge(
            "thingsvision_access_file_broken",
            "1 while a changed file can't be used and the old one stays: tokens, certificates",
            "kind",
        )

    def _make_loads(self) -> None:
        self.load_seconds = self._histogram("thingsvision_model_load_seconds", "Time of loads")
        self.unload_seconds = self._histogram(
            "thingsvision_model_unload_seconds", "Time to free a model"
        )
        self.loads = self._counter(
            "thingsvision_model_loads",
            "Loads, by result: ok (from a source), host (from the host's memory), error",
            "result",
        )
        self.evictions = self._counter(
            "thingsvision_model_evictions",
            "Models evicted from the device, by reason: room (for another), idle (--idle-seconds), "
            "unload, shutdown",
            "reason",
        )
        self.eviction_age = self._histogram(
            "thingsvision_model_age_at_eviction_seconds", "Time from a load to its eviction"
        )
        self.load_waiters = self._gauge("thingsvision_load_waiters", "Requests waiting for loads")
        self.memory_waiters = self._gauge(
            "thingsvision_memory_waiters", "Loads waiting for memory that other models hold"
        )
        self.lease_returns = self._counter(
            "thingsvision_lease_returns",
            "Leases that streams gave back while they waited for their clients",
        )

    def _make_residency(self) -> None:
        self.used_bytes = self._gauge(
            "thingsvision_residency_used_bytes", "Bytes used by resident models"
        )
        self.capacity_bytes = self._gauge(
            "thingsvision_residency_capacity_bytes", "Bytes that resident models may use"
        )
        self.reserved_bytes = self._gauge(
            "thingsvision_residency_reserved_bytes", "Bytes reserved for models being loaded"
        )
        self.host_used_bytes = self._gauge(
            "thingsvision_residency_host_used_bytes",
            "Host memory used by offloaded models",
        )
        self.host_capacity_bytes = self._gauge(
            "thingsvision_residency_host_capacity_bytes",
            "Host memory that offloaded models may use",
        )
        self.lru_age = self._gauge(
            "thingsvision_residency_lru_age_seconds", "Idle time of the next model to evict"
        )
        self.model_bytes = self._gauge(
            "thingsvision_model_resident_bytes", "Bytes used by each resident model", "model"
        )

    def _make_device(self) -> None:
        self.device_used_bytes = self._gauge(
            "thingsvision_device_memory_used_bytes", "Device memory in use by all processes"
        )
        self.device_total_bytes = self._gauge(
            "thingsvision_device_memory_total_bytes", "Device memory"
        )
        self.device_bytes = self._gauge(
            "thingsvision_device_memory_bytes",
            "Memory by kind: models, passes, staging (the host's, of inputs and rows on their "
            "way), templates (the host's, of what children are forked from), others "
            "(other processes, and other libraries in this one)",
            "kind",
        )
        self.busy_seconds = self._counter(
            "thingsvision_device_busy_seconds",
            "Time during which at least one lane of the device was at work",
        )
        self.pass_waits = self._counter(
            "thingsvision_pass_waits", "Passes that waited until there was memory for them"
        )

    def _make_queue(self) -> None:
        self.queue_depth = self._gauge(
            "thingsvision_queue_depth", "Images that are ready and wait for the device"
        )
        self.queue_wait_seconds = self._histogram(
            "thingsvision_queue_wait_seconds", "Time that an image waits for the device"
        )
        self._gauge(
            "thingsvision_queue_oldest_seconds",
            "Time that the image has waited for the device that waits longest; 0 if none waits",
        ).set_function(self.people.oldest_wait_seconds)
        self.batch_images = self._histogram(
            "thingsvision_batch_images", "Images in a forward pass", buckets=_IMAGES
        )
        self.batch_fill = self._histogram(
            "thingsvision_batch_fill_ratio",
            "Images in a forward pass relative to the maximum",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        )

    def _make_stages(self) -> None:
        self.decode_seconds = self._histogram(
            "thingsvision_decode_seconds", "Time to decode an image"
        )
        self.preprocess_seconds = self._histogram(
            "thingsvision_preprocess_seconds", "Time to preprocess an image"
        )
        self.forward_seconds = self._histogram(
            "thingsvision_forward_seconds", "Time of a forward pass"
        )
        self.copy_seconds = self._histogram(
            "thingsvision_copy_seconds",
            "Time to copy a batch to the device and to wait for its rows",
        )
        self.transfer_wait_seconds = self._histogram(
            "thingsvision_transfer_wait_seconds",
            "Time that a lane waits for the last copies from the device, when all is queued",
        )
        self.encode_seconds = self._histogram(
            "thingsvision_encode_seconds", "Time to encode a batch's rows as Arrow"
        )
        self.send_blocked_seconds = self._histogram(
            "thingsvision_send_blocked_seconds", "Time that a frame waits for the client"
        )

    def _make_totals(self) -> None:
        self.images = self._counter("thingsvision_images", "Images whose rows were computed")
        self.activation_bytes = self._counter(
            "thingsvision_activation_bytes", "Bytes of activations computed"
        )
        self.cancelled_images = self._counter(
            "thingsvision_cancelled_images", "Images dropped because the client was gone"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
