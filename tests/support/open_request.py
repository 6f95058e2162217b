"""An Extract request of the stock stub that stays open as long as a test wants."""

from __future__ import annotations

import queue
from typing import Any

from support.stock_calls import extraction, stock_calls


class OpenRequest:
    """An Extract request whose images are sent one by one."""

    def __init__(self, address: str) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._calls = stock_calls(address)
        self.replies = self._calls.__enter__().start("Extract", iter(self._messages.get, None))
        self.send(extraction("features.0", batch_size=1))
        assert next(self.replies).WhichOneof("part") == "header"

    def send(self, message: Any) -> None:
        self._messages.put(message)

    def close(self) -> None:
        self._messages.put(None)
        self._calls.__exit__(None, None, None)
