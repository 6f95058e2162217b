"""Builds a network in a new thread, so that Keras numbers its layers the same each time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def build_in_thread(build: Callable[[], T]) -> T:
    """Return the result of `build`, called in a new thread.

    Keras numbers unnamed layers per thread, starting again in each.
    """
    outcome: list[Any] = []

    def run() -> None:
        if "tf_keras" in sys.modules:  # it numbers them per process
            sys.modules["tf_keras"].backend.reset_uids()
        try:
            outcome.append(build())
        except BaseException as error:  # re-raised below
            outcome.append(error)

    thread = Thread(target=run, name="build")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    result: T = outcome[0]
    return result
