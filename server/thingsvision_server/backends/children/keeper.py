"""Keeps one child process as long as models or requests use it, and a while longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .process import ChildPlan, ChildProcess
from .template_process import Template

_IDLE_SECONDS = 60.0


class ChildKeeper:
    """The child process: started when it is needed, ended when its last model is closed.

    A child without models ends after a while without requests. Threads may share a keeper.
    """

    def __init__(
        self,
        template: Callable[[], Template],
        plan: ChildPlan,
        *,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self.plan = plan
        self._template = template
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._timer: threading.Timer | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child; None if no child is running."""
        child = self._child
        return child.pid if child and not child.is_gone else None

    @property
    def is_used(self) -> bool:
        """Whether the child has models or runs requests."""
        child = self._child
        return child is not None and not child.is_gone and child.user_count > 0

    @property
    def is_idle(self) -> bool:
        """Whether a child runs that nothing uses."""
        return self.pid is not None and not self.is_used

    @contextmanager
    def use(self) -> Iterator[ChildProcess]:
        """Yield the child, which does not end while the context lasts; raise PreconditionError."""
        with self._lock:
            if self._child is None or self._child.is_gone:
                self._child = ChildProcess(self._template(), self.plan)
            child = self._child
            child.user_count += 1
        try:
            yield child
        finally:
            with self._lock:
                child.user_count -= 1
                self._schedule_end()

    def hold(self, child: ChildProcess) -> None:
        """Keep the child until `release`; call it while the child is in use."""
        with self._lock:
            child.user_count += 1

    def release(self, child: ChildProcess) -> None:
        """Release a model's hold on the child; releasing the last hold ends the process."""
        with self._lock:
            child.user_count -= 1
            if not child.user_count:
                child.end()
                if child is self._child:
                    self._child = None
                    self._cancel_end()

    def _schedule_end(self) -> None:
        self._cancel_end()
        if self._child is None or self._child.is_gone:
            return
        self._timer = threading.Timer(self._idle_seconds, self.end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _cancel_end(self) -> None:
        """Let no thread wait to end the child: it would keep all that belongs to the child."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def end_if_idle(self) -> None:
        """End the child if nothing uses it."""
        with self._lock:
            if self._child and not self._child.user_count:
                self._child.end()
                self._child = None
                self._cancel_end()

    def end(self) -> None:
        """End the child, whatever it does."""
        child = self._child
        if child is not None:
            child.end()

    def close(self) -> None:
        """End the child if it holds no model; otherwise it ends when its last model is closed."""
        with self._lock:
            self._cancel_end()
        self.end_if_idle()
