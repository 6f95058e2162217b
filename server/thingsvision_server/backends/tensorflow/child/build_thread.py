"""Builds networks so that their layers are numbered alike each time; knows no network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def build_in_thread(build: Callable[[], T]) -> T:
    """Return what `build` makes in a thread of its own.

    Keras numbers unnamed layers by thread, from the first on in each.
    """
    outcome: list[Any] = []

    def run() -> None:
        if "tf_keras" in sys.modules:  # which numbers them by process
            sys.modules["tf_keras"].backend.reset_uids()
        try:
            outcome.append(build())
        except BaseException as error:  # raised where it is waited for
            outcome.append(error)

    thread = Thread(target=run, name="build")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    result: T = outcome[0]
    return result
