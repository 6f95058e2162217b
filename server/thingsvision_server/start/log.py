"""Writes the log: an object of JSON per line, or lines for people."""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from functools import cache
from typing import Any, TextIO, cast

import structlog

from ..access.tokens import hide_tokens
from ..settings import Settings


class _Lasting(io.TextIOBase):
    """A stream whose reader may be gone, or whose disk may be full: what can't be written is lost.

    A call must not fail because its line of the log does.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


@cache
def lasting(stream: TextIO) -> TextIO:
    """Return a stream to log to that never fails: always the same, which locks lines in turn."""
    return cast(TextIO, _Lasting(stream))


def _hide_tokens(_logger: object, _name: str, line: Any) -> str:
    return hide_tokens(line)


def log_to(stream: TextIO, settings: Settings) -> None:
    """Write what happens from now on to a stream, as the settings say."""
    people = settings.log_format == "console"
    renderer = structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
            _hide_tokens,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.log_level.upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(lasting(stream)),
    )
