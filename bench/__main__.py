"""Measure the service against its rivals, side by side, in turn, in one run.

Columns are processes that do the same work on the same files with the same seeded weights. Each
row says what it compares; `--rows` takes names of rows or patterns such as `rdm-*`. A run takes
about a quarter of an hour on two cores, which should be otherwise idle.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from thingsvision_client.errors import ThingsvisionError

from .attacks import measure_attacks
from .earlier import build
from .interleave import Patience
from .machine import describe_machine, has_gpu, peer_versions
from .measures.versions import versions_rows
from .peer_environment import make_peer_environment, peer_python
from .photographs import photograph_folder
from .plots import draw
from .process import PROJECT, ColumnError
from .report import Report
from .row import Cell, Row
from .rows import ROWS, Measure, select_rows
from .screen import show
from .session import Choices, open_session

RESULTS_DIR = PROJECT / "bench" / "results"
ROUNDS = {"quick": 2, "default": 3, "full": 7}
SECONDS = {"quick": 5.0, "default": 10.0, "full": 60.0}


def main() -> None:
    """Measure, print tables, and write figures, page and plots."""
    options = _options()
    if options.list:
        print("\n".join(row.id for row in ROWS))
        return
    if options.attacks:
        name = f"attacks-{time.strftime('%Y-%m-%dT%H%M%S')}"
        out = options.out or RESULTS_DIR / name
        print("Written:", measure_attacks(options.rows, options.photos, out), sep="\n  ")
        return
    # Exit with an exception, so that server, columns and the temporary folder are cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows: Sequence[Measure] = select_rows(options.rows, quick=options.quick, full=options.full)
    if options.against:
        rows = versions_rows(rows, build(options.against))
    choices = _choices(options)
    began = time.monotonic()
    machine = describe_machine(choices.device)
    machine["peer_versions"] = peer_versions(choices.peer) if choices.peer else {}
    folder = options.out or RESULTS_DIR / str(machine["time"]).replace(":", "").partition("+")[0]
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="thingsvision-bench-") as scratch:
        with closing(_measure(rows, choices, Path(scratch))) as found:
            for row in found:
                measured.append(row)
                report = Report(machine, _as_text(options), measured, time.monotonic() - began)
                paths = report.write(folder)  # after each row: an interrupted bench keeps its rows
        if any(cell.missing for row in measured for cell in row.cells.values()):
            _save_logs(Path(scratch), folder / "logs")
    show(report)
    plots = [] if options.against else draw(measured, folder)  # plots are of alternatives
    print("Written:", *paths, *plots, sep="\n  ")


def _measure(
    rows: Sequence[Measure], choices: Choices, scratch: Path
) -> Generator[Row, None, None]:
    with open_session(choices, scratch) as session:
        for number, row in enumerate(rows):
            began = time.monotonic()
            print(f"{number + 1}/{len(rows)} {row.id}", end=" ", file=sys.stderr, flush=True)
            try:
                result = row.measure(session)
            except (ColumnError, ThingsvisionError) as error:
                session.end_processes(list(session.processes))
                result = Row(row.id, "failed", "", {"all": Cell(missing=str(error))})
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            yield result


def _save_logs(scratch: Path, folder: Path) -> None:
    """Keep the logs of the processes, which say why a figure is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in scratch.glob("*.log"):
        shutil.copy(log, folder)


def _choices(options: argparse.Namespace) -> Choices:
    size = "quick" if options.quick else "full" if options.full else "default"
    peer = make_peer_environment() if options.peer else peer_python()
    return Choices(
        patience=Patience(options.rounds or ROUNDS[size], options.seconds or SECONDS[size]),
        device=options.device or ("cuda:0" if has_gpu() else "cpu"),
        photographs=photograph_folder(options.photos),
        image_count=options.images,
        quick=options.quick,
        full=options.full,
        peer=None if options.peer is False else peer,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=[], metavar="ROW", help="only these rows; patterns work")
    add("--list", action="store_true", help="print the names of all rows")
    add("--attacks", action="store_true", help="a second client's p95 with and without each attack")
    add("--quick", action="store_true", help="some rows, small: about five minutes")
    add("--full", action="store_true", help="all rows, more rounds: more than an hour")
    add("--rounds", type=int, help=f"maximum number of rounds of A B A B ({ROUNDS})")
    add("--seconds", type=float, help=f"no new round for a column after this time ({SECONDS})")
    add("--images", type=int, help="photographs per row of features (and rows per stream)")
    add("--photos", type=Path, help="folder of photographs")
    add(
        "--against",
        metavar="COMMIT",
        help="measure only the service, at that commit and in this checkout in turn",
    )
    add("--device", help="device of all columns, e.g. cpu (default: a GPU if there is one)")
    add(
        "--peer",
        action=argparse.BooleanOptionalAction,
        help="make the peer's environment first (6 GB); by default the peer is measured if its "
        "environment exists; --no-peer leaves it out",
    )
    add("--out", type=Path, help="folder for figures and plots (default: in bench/results)")
    return parser.parse_args()


def _as_text(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "list"}


if __name__ == "__main__":
    main()
