"""Says how many servers there should be, by how busy their devices are."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any


class BusyShare:
    """A policy of Ray Serve: enough replicas that devices are at work `target` of the time.

    Ray itself keeps the count within min_replicas and max_replicas, and waits upscale_delay_s and
    downscale_delay_s (serve.yaml).
    """

    def __init__(self, target: float = 0.7) -> None:
        if not 0 < target <= 1:
            raise ValueError(f"`target` must be above 0 and at most 1, got {target}")
        self._target = target

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Return the wanted number of replicas, and no state."""
        # Ray's own figures are of calls that pass through Ray; none of ours do.
        shares = context.aggregated_metrics.get("busy_share", {}).values()
        return self.count(shares, context.target_num_replicas), {}

    def count(self, shares: Collection[float], wanted: int) -> int:
        """Return how many servers there should be; `wanted` is how many were asked for before.

        A server that has told nothing yet counts as idle if that means more servers, and as busy if
        it means fewer, as Kubernetes' autoscaler does it.
        """
        silent_count = max(0, wanted - len(shares))
        most, least = self._needed(sum(shares) + silent_count), self._needed(sum(shares))
        return max(min(most, wanted), least)

    def _needed(self, busy: float) -> int:
        # Shares are sums of measured seconds: 1.4 / 0.7 must not become 3.
        return max(1, math.ceil(busy / self._target - 1e-9))
