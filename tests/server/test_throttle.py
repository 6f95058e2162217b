"""Background imports wait while a list is sent, for a limited time."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

from thingsvision_server.sources.throttle import ImportThrottle


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return names of modules that can be imported and have not been."""
    names = [f"throttled_{tmp_path.name}_{number}" for number in range(2)]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return names


class Importer:
    """A throttled thread that imports a module."""

    def __init__(self, throttle: ImportThrottle, module: str) -> None:
        self.done = threading.Event()
        self._ready = threading.Event()
        self._go = threading.Event()

        def work() -> None:
            with throttle.apply():
                self._ready.set()
                self._go.wait(10)
                import_module(module)
            self.done.set()

        threading.Thread(target=work, daemon=True).start()
        self._ready.wait(10)

    def go(self) -> None:
        self._go.set()


def test_a_throttled_import_waits_for_the_pause(modules: list[str]) -> None:
    throttle = ImportThrottle()
    importer = Importer(throttle, modules[0])
    with throttle.pause():
        importer.go()
        assert not importer.done.wait(0.3)
        import_module(modules[1])  # another thread's imports need not wait
    assert importer.done.wait(10)
    assert modules[0] in sys.modules


def test_it_does_not_wait_for_a_slow_client(modules: list[str]) -> None:
    throttle = ImportThrottle()
    importer = Importer(throttle, modules[0])
    with throttle.pause():
        started = time.monotonic()
        importer.go()
        assert importer.done.wait(10)
        assert time.monotonic() - started > 0.5


def test_a_limit_of_zero_switches_it_off(modules: list[str]) -> None:
    throttle = ImportThrottle(max_pause_seconds=0)
    took = []
    with throttle.apply(), throttle.pause():
        for name in modules:
            started = time.monotonic()
            import_module(name)
            took.append(time.monotonic() - started)
    assert min(took) < 0.5, took


def test_no_finder_is_left_behind(modules: list[str]) -> None:
    throttle = ImportThrottle()
    with throttle.apply():
        assert throttle in sys.meta_path
        import_module(modules[0])
    assert throttle not in sys.meta_path
