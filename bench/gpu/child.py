"""Runs checks in turn, and ends after the first that fails: the device may be unusable then."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .checks import CHECKS
from .stage import Result, Results, Stage

Say = Callable[[dict[str, Any]], None]

_ERROR_LINES = 12


def main() -> None:
    """Run the checks of the order in the first argument."""
    order, say = json.loads(sys.argv[1]), _open_messages()
    stage = _stage(order)
    if order["describe"]:
        from .machine import describe

        say({"check": "machine", "pretended": stage.is_pretended, **describe(stage.device)})
    with stage.closing:
        for name in order["names"]:
            say({"begin": name})
            failed = not _run(name, stage, say)
            say({"end": name, "failed": failed})
            if failed:
                return


def _open_messages() -> Say:
    """Reserve standard output for messages; the output of libraries goes to standard error."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        messages.write(f"{json.dumps(message)}\n")
        messages.flush()

    return say


def _stage(order: dict[str, Any]) -> Stage:
    from ..photographs import photograph_folder

    device = order["device"] or ("cpu" if order["pretend"] else "cuda:0")
    photographs = photograph_folder(Path(order["photographs"]) if order["photographs"] else None)
    weights = Path(order["weights"]) if order["weights"] else None
    # Tests read these, also if somebody runs them without this command.
    os.environ["THINGSVISION_GPU_DEVICE"] = device
    os.environ["THINGSVISION_GPU_PHOTOGRAPHS"] = str(photographs)
    scratch = Path(order["scratch"])
    return Stage(
        device, order["pretend"], photographs=photographs, weights=weights, scratch=scratch
    )


def _run(name: str, stage: Stage, say: Say) -> bool:
    """Run a check, and tell each result; return whether all are right."""
    outcomes: list[bool] = []

    def tell(result: Result) -> None:
        outcomes.append(result["ok"])
        say({"check": name, **result})

    try:
        _check(CHECKS[name].target, stage, tell)
    except Exception:
        error = "\n".join(traceback.format_exc().splitlines()[-_ERROR_LINES:])
        tell({"ok": False, "error": error})
    return all(outcomes)


def _check(target: Path | str, stage: Stage, tell: Callable[[Result], None]) -> None:
    if isinstance(target, Path):
        from .suite import run_tests

        run_tests(target, tell)
        return
    module, _, function = target.partition(":")
    results: Results = getattr(import_module(f"{__package__}.{module}"), function)(stage)
    began = time.monotonic()
    for result in results:
        tell({**result, "seconds": round(time.monotonic() - began, 2)})
        began = time.monotonic()


if __name__ == "__main__":
    main()
