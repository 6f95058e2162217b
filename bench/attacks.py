"""The table of attacks: how long a second client's calls take without each attack, and with it.

The attacks are those of `tests/hostile/attacks`, on one server in a process of its own, each from
a process of its own, and repeated for some seconds. The second client is another person, as it
comes through the server's socket. It is measured before each attack too, so that both figures come
from the same minute.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .photographs import photograph_folder
from .process import PROJECT

GOAL = 3.0
"""A second client's p95 during an attack, in multiples of its p95 before the attack."""

_QUIET_SECONDS, _ATTACK_SECONDS, _EVERY_SECONDS = 6.0, 6.0, 0.1
"""How long the second client is watched, at least, and how often it calls."""

_SOCKET = "second.sock"
_WRONG_TOKENS = "wrong_tokens"
_HEAD = ("attack", "seconds", "calls", "p95 without", "p95 with", "ratio", "peak", "after", "fault")


@dataclass(frozen=True)
class AttackRow:
    """What an attack did to a second client, and to the server's memory."""

    name: str
    seconds: float
    call_count: int
    quiet_ms: float
    attacked_ms: float
    peak_mib: float
    """The most over the memory when nothing runs."""
    after_mib: float
    fault: str
    """What failed: the attack's own checks, or a call of the second client."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row."""
        ratio = self.attacked_ms / self.quiet_ms
        mark = "" if ratio <= GOAL and not self.fault else " !"
        return (
            self.name,
            f"{self.seconds:.1f}",
            f"{self.call_count}",
            f"{self.quiet_ms:.0f} ms",
            f"{self.attacked_ms:.0f} ms",
            f"{ratio:.1f}{mark}",
            f"{self.peak_mib:+.0f} MiB",
            f"{self.after_mib:+.0f} MiB",
            self.fault,
        )


def measure_attacks(patterns: Sequence[str], photos: Path | None, out: Path) -> Path:
    """Run the attacks whose names match, print their table, and return the file it is in."""
    rows = []
    for row in _measure(patterns, sorted(photograph_folder(photos).iterdir())[:4]):
        rows.append(row)
        print(" | ".join(row.cells), file=sys.stderr, flush=True)
    table = _table([_HEAD, *(row.cells for row in rows)])
    print(f"\n{table}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "attacks.md"
    path.write_text(table + "\n")
    return path


def _measure(patterns: Sequence[str], photos: list[Path]) -> Iterator[AttackRow]:
    sys.path.insert(0, str(PROJECT / "tests"))
    from hostile.attacks import ATTACKS
    from support.bystander import bystander
    from support.server_process import server_process

    chosen = [
        one
        for name, one in ATTACKS.items()
        if not patterns or any(fnmatch(name, pattern) for pattern in patterns)
    ]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with server_process(folder, unix=folder / _SOCKET) as server:
            with bystander(f"unix:{folder / _SOCKET}", photos, _EVERY_SECONDS):
                time.sleep(_QUIET_SECONDS)
            idle = _memory_mib(server.process)["VmRSS"]
            for one in chosen:
                yield _measure_attack(one, server, photos, folder, idle_mib=idle)
    if not patterns or any(fnmatch(_WRONG_TOKENS, pattern) for pattern in patterns):
        yield _measure_wrong_tokens(photos)


def _measure_wrong_tokens(photos: list[Path]) -> AttackRow:
    """Measure wrong tokens at the highest rate of one process, on a server with tokens."""
    from support.bystander import bystander
    from support.flood import flood
    from support.lab import found_lab
    from support.server_process import server_process
    from thingsvision_server.access.scopes import Scope
    from thingsvision_server.access.tokens import new_token

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lab = found_lab(folder)
        token = lab.add_token("bystander", Scope.READ, Scope.EXTRACT)
        with server_process(folder, tokens=lab.tokens) as server:
            with bystander(server.address, photos, _EVERY_SECONDS, token=token) as quiet:
                time.sleep(2 * _QUIET_SECONDS)
            idle, began = _memory_mib(server.process)["VmRSS"], time.monotonic()
            with (
                flood(server.address, new_token()[1], folder) as attack,
                bystander(server.address, photos, _EVERY_SECONDS, token=token) as attacked,
            ):
                time.sleep(2 * _QUIET_SECONDS)
                rate = attack.rate
            memory = _memory_mib(server.process)
    name = f"{_WRONG_TOKENS} ({rate:,.0f}/s)"
    return _row(name, time.monotonic() - began, (quiet, attacked), memory=memory, idle_mib=idle)


def _measure_attack(
    attack: Any, server: Any, photos: list[Path], folder: Path, *, idle_mib: float
) -> AttackRow:
    from support.attacker import attacker
    from support.bystander import bystander

    place, address = folder / attack.name, f"unix:{folder / _SOCKET}"
    place.mkdir()
    with attacker(attack.name, server, photos, place, seconds=_ATTACK_SECONDS) as one:
        with bystander(address, photos, _EVERY_SECONDS) as quiet:
            time.sleep(_QUIET_SECONDS)
        # Linux forgets the most that a process had.
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
        began = time.monotonic()
        with bystander(address, photos, _EVERY_SECONDS) as attacked:
            count, fault = one.attack()
        memory = _memory_mib(server.process)
    name = attack.name if count == 1 else f"{attack.name} ({count} times)"
    calls, seconds = (quiet, attacked), time.monotonic() - began
    return _row(name, seconds, calls, memory=memory, idle_mib=idle_mib, fault=fault)


def _row(
    name: str,
    seconds: float,
    calls: tuple[Any, Any],
    *,
    memory: dict[str, float],
    idle_mib: float,
    fault: str = "",
) -> AttackRow:
    """Return the row of an attack; `calls` are a bystander's without and with it."""
    quiet, attacked = calls
    return AttackRow(
        name=name,
        seconds=seconds,
        call_count=len(attacked.seconds),
        quiet_ms=quiet.p95_seconds * 1000,
        attacked_ms=attacked.p95_seconds * 1000,
        peak_mib=memory["VmHWM"] - idle_mib,
        after_mib=memory["VmRSS"] - idle_mib,
        fault=fault or "".join(attacked.failures[:1]),
    )


def _memory_mib(process: Any) -> dict[str, float]:
    """Return the memory of a process now, and the most that it had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", status)
    return {name: int(kibibytes) / 1024 for name, kibibytes in found}


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
