"""Libraries that open in the background make way for what is sent, for a moment at most."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

from thingsvision_server.sources.pause import ImportPause


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of modules that can be imported and were not yet."""
    names = [f"paused_{tmp_path.name}_{number}" for number in range(2)]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return names


class Importer:
    """A thread that imports a module with a pause's leave."""

    def __init__(self, pause: ImportPause, module: str) -> None:
        self.done = threading.Event()
        self._ready = threading.Event()
        self._go = threading.Event()

        def work() -> None:
            with pause.importing():
                self._ready.set()
                self._go.wait(10)
                import_module(module)
            self.done.set()

        threading.Thread(target=work, daemon=True).start()
        self._ready.wait(10)

    def go(self) -> None:
        self._go.set()


def test_a_thread_that_imports_waits_for_the_hasty(modules: list[str]) -> None:
    pause = ImportPause()
    importer = Importer(pause, modules[0])
    with pause.hasty():
        importer.go()
        assert not importer.done.wait(0.3)
        import_module(modules[1])  # another thread's imports need not wait
    assert importer.done.wait(10)
    assert modules[0] in sys.modules


def test_it_does_not_wait_for_a_slow_reader(modules: list[str]) -> None:
    pause = ImportPause()
    importer = Importer(pause, modules[0])
    with pause.hasty():
        started = time.monotonic()
        importer.go()
        assert importer.done.wait(10)
        assert time.monotonic() - started > 0.5


def test_nothing_is_left_behind(modules: list[str]) -> None:
    pause = ImportPause()
    with pause.importing():
        assert pause in sys.meta_path
        import_module(modules[0])
    assert pause not in sys.meta_path
