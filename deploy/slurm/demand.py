#!/usr/bin/env python3
"""Submits one more server while the servers are busy, and ends it again when nobody uses it.

Run it every minute or every five, by cron on a login node or by Slurm's own scrontab:
    */2 * * * * ~/thingsvision/env/bin/python ~/thingsvision/deploy/slurm/demand.py --most 4
It reads the announcements in TV_HOME (~/thingsvision by default) and compares them with what it
read the last time. It ends only servers that it submitted itself, by `scancel --batch`: they
finish their calls. What follows `--` goes to sbatch, such as `-- --partition=gpu --time=6:00:00`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

JOB_NAME = "thingsvision-extra"
SCRIPT = Path(__file__).resolve().parent / "servers.sbatch"


@dataclass(frozen=True)
class Look:
    """What a server announced: how often it wrote that, and what it had done until then."""

    host: str
    port: str
    beat: int
    process: str
    busy_seconds: float
    waiting_seconds: float
    waiting_models: int
    in_use: bool
    draining: bool


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    home = Path(os.environ.get("TV_HOME", Path.home() / "thingsvision"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=home, help="the folder; default: TV_HOME")
    parser.add_argument("--most", type=int, default=2, help="extra servers at a time (2)")
    parser.add_argument(
        "--busy-percent", type=float, default=70, help="one more above this mean busy share (70)"
    )
    parser.add_argument(
        "--wait-seconds", type=float, default=10, help="or if an image waits longer than this (10)"
    )
    parser.add_argument(
        "--idle-minutes", type=float, default=20, help="end an extra server unused for so long (20)"
    )
    parser.add_argument("sbatch", nargs="*", help="options of sbatch, after --")
    return parser.parse_args()


def main() -> None:
    """Look once, and submit or end at most what the difference to the last look asks for."""
    options = read_options()
    state_file = options.home / "jobs" / "demand.json"
    state_file.parent.mkdir(parents=True, exist_ok=True)
    # cron starts the next although this one still waits for Slurm.
    lock = (options.home / "jobs" / "demand.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("demand.py: another one is at work")
    state = read_state(state_file)
    now, found = time.time(), read_announcements(options.home / "announced")
    before = {name: Look(**value) for name, value in state.get("looks", {}).items()}
    living = {name: one for name, one in found.items() if is_alive(one, before.get(name))}
    jobs = extra_jobs()
    used = find_used(options.home, jobs, living, before)
    ending = find_ending(options.home, set(state.get("ending", ())) & set(jobs), living)
    going_on = {job: one for job, one in jobs.items() if job not in ending}
    earlier = state.get("unused_since", {})
    since = {job: earlier.get(job, now) for job in going_on if job not in used}
    reason = find_demand(living, before, now - state.get("time", now), options)
    if reason and len(jobs) < options.most and all_have_started(options.home, going_on, living):
        submit(options, reason)
    elif not reason:
        minutes = options.idle_minutes
        unused = {job: jobs[job] for job, start in since.items() if now - start > minutes * 60}
        ending |= end_unused(unused, minutes)
    looks = {name: asdict(one) for name, one in found.items()}
    kept = {"time": now, "looks": looks, "unused_since": since, "ending": sorted(ending)}
    made = state_file.with_suffix(".new")
    made.write_text(json.dumps(kept))
    made.replace(state_file)


def read_state(file: Path) -> dict[str, Any]:
    """Return what the last look left; nothing if there was none."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def read_announcements(folder: Path) -> dict[str, Look]:
    """Return what each server announces, by the name of its file."""
    found = {}
    for file in folder.glob("*.json"):
        try:
            found[file.name] = parse_announcement(json.loads(file.read_text()))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            print(f"demand.py: {file} can't be read: {error!r}", file=sys.stderr)
    return found


def parse_announcement(values: Mapping[str, Any]) -> Look:
    """Return the parts of an announcement that tell how much its server has to do."""
    status = values["status"]
    people = status.get("people", [])
    return Look(
        host=status["servers"][0]["host_name"],
        port=str(values["address"]).rpartition(":")[2],
        beat=int(values["beat"]),
        process=str(values["process"]),
        busy_seconds=float(status["devices"][0].get("busy_seconds", 0)),
        waiting_seconds=max((float(one.get("waiting_seconds", 0)) for one in people), default=0),
        waiting_models=len(status.get("waiting", [])),
        in_use=any(one.get("call_count") or one.get("waiting_image_count") for one in people),
        draining=values["state"] == "draining",
    )


def is_alive(now: Look, before: Look | None) -> bool:
    """Tell whether a server takes calls: its file changes, and it does not drain."""
    unchanged = before is not None and (before.process, before.beat) == (now.process, now.beat)
    return not unchanged and not now.draining


def find_demand(
    living: Mapping[str, Look],
    before: Mapping[str, Look],
    seconds: float,
    options: argparse.Namespace,
) -> str:
    """Return why another server is needed; an empty text if none is."""
    known = {
        name: one
        for name, one in living.items()
        if name in before and before[name].process == one.process
    }
    if not known or seconds <= 0:
        return ""
    busy = sum(one.busy_seconds - before[name].busy_seconds for name, one in known.items())
    percent = 100 * busy / (seconds * len(known))
    if percent > options.busy_percent:
        return f"{len(known)} servers are busy for {percent:.0f} % of the time"
    waits = sum(one.waiting_seconds for one in known.values()) / len(known)
    if waits > options.wait_seconds:
        return f"images wait for {waits:.0f} s"
    if all(one.waiting_models for one in known.values()):
        return "on each server a model waits for memory"
    return ""


def extra_jobs() -> dict[str, str]:
    """Return the jobs that this program submitted: ids, and Slurm's words for states."""
    command = ("--me", "--noheader", f"--name={JOB_NAME}", "--format=%A %T")
    return dict(line.split() for line in run("squeue", *command).splitlines())


def server_of(home: Path, job: str, servers: Mapping[str, Look]) -> str:
    """Return the name of the announcement of a job's server; an empty text if it has none."""
    try:
        host, *lines = (home / "jobs" / job).read_text().split("\n")
    except OSError:
        return ""
    ports = {line.rpartition(":")[2].strip() for line in lines if " listening on " in line}
    found = [name for name, one in servers.items() if one.host == host and one.port in ports]
    return found[0] if found else ""


def all_have_started(home: Path, jobs: Mapping[str, str], living: Mapping[str, Look]) -> bool:
    """Tell whether each extra job has a server: until then its help is not yet seen."""
    return all(server_of(home, job, living) for job in jobs)


def find_used(
    home: Path, jobs: Mapping[str, str], living: Mapping[str, Look], before: Mapping[str, Look]
) -> set[str]:
    """Return the extra jobs whose servers have calls, or were busy since the last look."""
    servers = {job: server_of(home, job, living) for job in jobs}
    return {
        job
        for job, name in servers.items()
        if name
        and (
            living[name].in_use
            or name not in before
            or living[name].busy_seconds != before[name].busy_seconds
        )
    }


def find_ending(home: Path, ended: set[str], living: Mapping[str, Look]) -> set[str]:
    """Return the jobs of those ended whose servers finish their calls, or have not begun.

    A second signal would end such a server at once. But one that takes calls was not told: Slurm
    has nobody to signal while a job is being started.
    """
    return {job for job in ended if not server_of(home, job, living)}


def submit(options: argparse.Namespace, reason: str) -> None:
    """Submit one more server, which is not queued again when its time is over."""
    variables = f"--export=ALL,TV_HOME={options.home},TV_REQUEUE=0"
    names = (f"--job-name={JOB_NAME}", f"--output={JOB_NAME}-%j.log")
    command = ("--parsable", *names, variables, *options.sbatch, str(SCRIPT))
    print(f"job {run('sbatch', *command).strip()} submitted: {reason}")


def end_unused(jobs: Mapping[str, str], minutes: float) -> set[str]:
    """End jobs, by their states, and return them; a server that runs finishes its calls first."""
    for job, state in jobs.items():
        run("scancel", *(() if state == "PENDING" else ("--batch", "--signal=TERM")), job)
        print(f"job {job} ends: nobody needed its server for {minutes:g} minutes")
    return set(jobs)


def run(*command: str) -> str:
    """Return what a program of Slurm prints; end with what it complains of if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - Slurm's own
    except FileNotFoundError:
        sys.exit(f"demand.py: {command[0]} was not found; PATH must have Slurm's programs")
    if done.returncode:
        sys.exit(f"demand.py: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
