"""Logs what the server is doing: the stacks of all threads and tasks, and the queue."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from ..wiring import RunningServer
from .log import lasting

_ANSWER_SECONDS = 2.0
_MAX_TASKS = 200
_MAX_CHARACTERS = 8000
_MAX_FRAMES = 50
_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_AWAITED = ("cr_await", "ag_await", "gi_yieldfrom")
"""The frame of a coroutine or generator, and what it waits for."""


def report(loop: asyncio.AbstractEventLoop, server: RunningServer) -> None:
    """Log the stacks, then the queue, whatever the level of the log is.

    Call this in a thread other than the loop's: the loop may be what hangs.
    """
    log = structlog.wrap_logger(
        structlog.PrintLogger(lasting(sys.stderr)),
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    )
    for name, stack in _thread_stacks().items():
        log.info("stack", thread=name, stack=stack[-_MAX_CHARACTERS:])
    asked = asyncio.run_coroutine_threadsafe(_ask(server), loop)
    try:
        stacks, queue = asked.result(_ANSWER_SECONDS)
    except concurrent.futures.TimeoutError:
        asked.cancel()
        log.warning("the event loop does not answer", seconds=_ANSWER_SECONDS)
        return
    for name, stack in stacks:
        log.info("stack", task=name, stack=stack[-_MAX_CHARACTERS:])
    log.info("queue", **queue)


def _thread_stacks() -> dict[str, str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(number, 'thread')} ({number})": "".join(traceback.format_stack(frame))
        for number, frame in sys._current_frames().items()  # noqa: SLF001 - documented
    }


async def _ask(server: RunningServer) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    tasks = list(asyncio.all_tasks())[:_MAX_TASKS]
    return [(task.get_name(), _task_stack(task)) for task in tasks], describe_queue(server)


def _task_stack(task: asyncio.Task[Any]) -> str:
    """Return where a task waits: the line of each coroutine, the outermost first."""
    lines: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(lines) < _MAX_FRAMES:
        frames = (getattr(waiting, name, None) for name in _FRAMES)
        if frame := next(filter(None, frames), None):
            code = frame.f_code
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n')
        else:  # of a library that is not written in Python
            lines.append(f"  {str(waiting)[:200]}\n")
        nexts = (getattr(waiting, name, None) for name in _AWAITED)
        waiting = next((one for one in nexts if one is not None), None)
    return "".join(lines)


def describe_queue(server: RunningServer) -> dict[str, Any]:
    """Return who waits for what: images, loads, calls, and the models in memory."""
    sample: Callable[[str], float | None] = server.metrics.registry.get_sample_value
    models: list[Mapping[str, Any]] = [
        {
            "model": str(one.key),
            "leases": one.lease_count,
            "pinned": one.pinned,
            "idle_seconds": round(one.idle_seconds, 1),
        }
        for one in server.residency.residents()
    ]
    memory = server.residency.memory
    waiting = [
        {
            "model": str(one.key),
            "place": memory.queue.number(place),
            "seconds": round(place.waited_seconds, 1),
            "reason": memory.describe(place).reason,
        }
        for one, place in server.residency.waiting()
    ]
    return {
        "images_waiting": int(sample("thingsvision_queue_depth") or 0),
        "loads_waiting": int(sample("thingsvision_load_waiters") or 0),
        "waiting_for_memory": waiting,
        "used_bytes": memory.used_bytes,
        "reserved_bytes": memory.reserved_bytes,
        "models": models,
        "calls": server.calls(),
    }
