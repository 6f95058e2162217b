"""A Slurm of one node: its real daemons on loopback alone, with nothing of the machine's own Slurm.

It runs as any user, in any container: it needs no control groups, no root, and no name of a host.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.programs import find_program
from support.server_process import free_port

_START_SECONDS = 60.0
_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
# Devices that are everywhere; what jobs see of them is a number in CUDA_VISIBLE_DEVICES.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
_FIRST_WITHOUT_GROUPS = (23, 2)
"""The version from which Slurm can do without control groups; before, it must not use them."""

_CONFIG = """\
ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=64 RealMemory=400000 Gres=gpu:{devices} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class OneNodeSlurm:
    """The daemons' folder, and the variables by which Slurm's programs find them."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """Return what a program of Slurm, or a script that uses it, prints."""
        done = subprocess.run(
            [str(one) for one in command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def submit(self, *command: str | Path) -> str:
        """Submit a job; return its id. What it prints is in a file in the daemons' folder."""
        return self.run("sbatch", "--parsable", *command).strip()

    def jobs(self) -> dict[str, str]:
        """Return the states of the jobs that wait or run, by their ids (`3`, or `3_1`)."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def job(self, name: str) -> dict[str, str]:
        """Return all that Slurm tells of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", name)))

    def processes(self, job: str, word: str) -> list[psutil.Process]:
        """Return a job's processes that have a word in their command line."""
        number = self.job(job)["JobId"]
        found = []
        for process in psutil.process_iter():
            try:
                command, variables = process.cmdline(), process.environ()
            except psutil.Error:  # it has ended, or is another user's
                continue
            is_ours = variables.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            if is_ours and variables.get("SLURM_JOB_ID") == number and word in command:
                found.append(process)
        return found

    def logs(self) -> str:
        """Return what the jobs and the daemons have logged."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files)


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[OneNodeSlurm]:
    """Run Slurm in a folder whose path is short: it holds a socket. All its jobs end with it."""
    programs = {name: find_program(name, required="SLURM") for name in _DAEMONS}
    paths = [os.environ["PATH"], *{str(Path(path).parent) for path in programs.values()}]
    environment = {**os.environ, "PATH": os.pathsep.join(paths)}
    slurm = OneNodeSlurm(folder, environment | {"SLURM_CONF": str(folder / "slurm.conf")})
    _configure(folder, slurm.run(programs["slurmd"], "-V"))
    munge = [f"--{name}={folder}/munge.{name}" for name in ("key-file", "pid-file", "seed-file")]
    munge += [f"--socket={folder}/munge", "--num-threads=2", "--foreground", "--force"]
    with ExitStack() as stack:
        for name, flags in (
            ("munged", munge),
            ("slurmctld", ["-D", "-i"]),
            ("slurmd", ["-D", "-N", "localhost"]),
        ):
            stack.enter_context(_daemon(slurm, programs[name], *flags))
            if name == "munged":
                _wait_until(slurm, (folder / "munge").exists)
        _wait_until(slurm, lambda: _is_idle(slurm))
        try:
            yield slurm
        finally:
            subprocess.run(
                [programs["scancel"], "--full", "--signal=KILL", "--me"], env=slurm.environment
            )
            _wait_until(slurm, lambda: not slurm.jobs())


def _configure(folder: Path, version: str) -> None:
    ports = {"controller_port": free_port(), "daemon_port": free_port()}
    text = _CONFIG.format(folder=folder, user=getpass.getuser(), devices=len(_DEVICES), **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={one}\n" for one in _DEVICES))
    numbers = re.search(r"(\d+)\.(\d+)", version)
    assert numbers, version
    is_new = tuple(map(int, numbers.groups())) >= _FIRST_WITHOUT_GROUPS
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={'disabled' if is_new else 'cgroup/v1'}\n")
    key = folder / "munge.key-file"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()


@contextmanager
def _daemon(slurm: OneNodeSlurm, program: str, *flags: str) -> Iterator[None]:
    log = slurm.folder / f"{Path(program).name}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [program, *flags], env=slurm.environment, stdout=written, stderr=written
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _is_idle(slurm: OneNodeSlurm) -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(command, env=slurm.environment, capture_output=True, text=True)
    return done.stdout.strip() == "idle"


def _wait_until(slurm: OneNodeSlurm, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, slurm.logs()
        time.sleep(0.05)
