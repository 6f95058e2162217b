"""What a server tells a call that waits for memory, as a stage of progress."""

from __future__ import annotations

from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.progress import Progress, loading_stage, waiting_stage

_STREAMS = (pb.ExtractResponse, pb.ComputeRDMResponse, pb.FitPCAResponse)


def is_wait(reply: Any) -> bool:
    """Tell whether a reply only says that the call waits; nothing of the result was sent by it."""
    return isinstance(reply, _STREAMS) and reply.HasField("waiting")


def stage_of(waiting: pb.Waiting, model: str) -> str:
    """Return the stage of a call that waits for a model, by the model's name."""
    if waiting.stage != pb.LOAD_STAGE_WAITING:
        return loading_stage(model)
    return waiting_stage(waiting.place, waiting.queue_length, waiting.reason)


def report_wait(progress: Progress | None, waiting: pb.Waiting, model: str) -> None:
    """Report that a call waits, or that its model loads now."""
    if progress is not None:
        progress(stage_of(waiting, model), 0, None)
