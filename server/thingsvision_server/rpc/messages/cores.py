"""Converts between the message about cores and the plan of the engine."""

from __future__ import annotations

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...engine.passes.cores import CorePlan


def read_cores(message: pb.Cores) -> CorePlan:
    """Return the plan in a message."""
    return CorePlan(message.count, message.tail_start, message.tail_count)


def cores_message(plan: CorePlan | None) -> pb.Cores | None:
    """Return the message of a plan; None leaves the field unset."""
    return None if plan is None else pb.Cores(**vars(plan))
