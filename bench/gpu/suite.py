"""Runs a file of tests, and tells the outcome of each."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from .stage import Result

_DIGITS = 2


def run_tests(path: Path, tell: Callable[[Result], None]) -> None:
    """Run the tests of a file; a test that is skipped is not right, as it checked nothing."""
    outcomes = _Outcomes(tell)
    settings = path.parent / "pytest.ini"
    # This project's own settings need plugins that need not be there.
    arguments = ["-c", str(settings), "-q", "-p", "no:cacheprovider", str(path)]
    code = pytest.main(arguments, plugins=[outcomes])
    if not outcomes.count:
        tell({"ok": False, "error": f"no test ran: pytest ended with {code!r}"})


class _Outcomes:
    """Tells at once what became of each test."""

    def __init__(self, tell: Callable[[Result], None]) -> None:
        self.count = 0
        self._tell = tell

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            told: dict[str, Any] = dict(report.user_properties)
            seconds = round(report.duration, _DIGITS)
            result: Result = {"row": item.name, "ok": report.passed, **told, "seconds": seconds}
            if not report.passed:
                result["error"] = _reason(report)
            self.count += 1
            self._tell(result)
        return report


def _reason(report: pytest.TestReport) -> str:
    if report.skipped:
        return f"skipped: {report.longrepr[2] if isinstance(report.longrepr, tuple) else ''}"
    return report.longreprtext[-2000:]
