"""The Prometheus metrics that the server publishes, in base units.

No label identifies a user, an image or a request.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_GRPC = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_grpc()
        self._make_residency()
        self._make_queue()
        self._make_stages()

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

    def _make_residency(self) -> None:
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
            "thingsvision_model_evictions", "Models evicted from the device, by reason", "reason"
        )
        self.eviction_age = self._histogram(
            "thingsvision_model_age_at_eviction_seconds", "Time from a load to its eviction"
        )
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
        self.load_waiters = self._gauge("thingsvision_load_waiters", "Requests waiting for loads")
        self.device_used_bytes = self._gauge(
            "thingsvision_device_memory_used_bytes", "Device memory in use by all processes"
        )
        self.device_total_bytes = self._gauge(
            "thingsvision_device_memory_total_bytes", "Device memory"
        )

    def _make_queue(self) -> None:
        self.queue_depth = self._gauge(
            "thingsvision_queue_depth", "Images that are ready and wait for the device"
        )
        self.queue_wait_seconds = self._histogram(
            "thingsvision_queue_wait_seconds", "Time that an image waits for the device"
        )
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
        self.encode_seconds = self._histogram(
            "thingsvision_encode_seconds", "Time to encode a batch's rows as Arrow"
        )
        self.send_blocked_seconds = self._histogram(
            "thingsvision_send_blocked_seconds", "Time that a frame waits for the client"
        )
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
