"""The helper of the MATLAB client, and what MATLAB does with its private folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thingsvision_client.matlab.helper import PROTOCOL
from thingsvision_client.matlab.starting import start_helper


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Folder:
    """What MATLAB does with its private folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        self.number += 1
        content = {"op": op, "protocol": PROTOCOL, **request}
        name = f"request_{self.number}"
        (self.path / f"{name}.json").write_text(json.dumps(content))
        (self.path / f"{name}.go").touch()
        reply = self.path / f"reply_{self.number}.json"
        wait_for(reply.exists)
        answer: dict[str, Any] = json.loads(reply.read_text())
        reply.unlink()
        return answer


@contextmanager
def started_helper(folder: Path) -> Iterator[Folder]:
    """Start a helper, whose private folder is in `folder`, and end it."""
    path = folder / "private"
    path.mkdir()
    start_helper(str(path), sys.executable)
    wait_for((path / "beat").exists)
    yield Folder(path)
    (path / "stop").touch()
    wait_for(lambda: not path.exists())
