"""What the units of systemd in deploy/box/ start, in folders and on ports of a test."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from support.checkout import CHECKOUT
from support.cluster import envoy_program
from support.server_process import _run_server, _template

BOX = CHECKOUT / "deploy" / "box"


def unit_lines(name: str, key: str) -> list[str]:
    """Return the values of a key in a unit."""
    return re.findall(rf"^{key}=(.*)$", (BOX / name).read_text(), re.MULTILINE)


@contextmanager
def started_unit(
    name: str, folder: Path, changes: Mapping[str, str], instance: str = ""
) -> Iterator[None]:
    """Run the line ExecStart of a unit, with its environment, until the end.

    `changes` are texts to put in the place of others, such as paths.
    """
    (line,) = unit_lines(name, "ExecStart")
    variables = [one.replace("%i", instance) for one in unit_lines(name, "Environment")]
    line = line.replace("%i", instance)
    for old, new in changes.items():
        line = line.replace(old, new)
    program, *flags = shlex.split(line)
    log = folder / f"{Path(name).stem}{instance}.log"
    if program.endswith("/envoy"):
        with log.open("wb") as written:
            process = subprocess.Popen([envoy_program(), *flags], stdout=written, stderr=written)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)
        return
    assert program.endswith("/thingsvision-server"), program
    # Forked from a process that has imported the libraries: else ten seconds of a core for each.
    given = dict(one.split("=", 1) for one in variables)
    before = partial(_set_environment, given)
    server = _template().Process(
        target=_run_server, args=[flags, log.with_suffix(".out"), log, before]
    )
    server.start()
    try:
        yield
    finally:
        server.terminate()
        server.join(30)
        assert server.exitcode is not None, log.read_text()


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
