"""The page for operators: its commands run in order, except those that change a system."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_blocks import blocks

from support.checkout import CHECKOUT
from support.server_process import server_process

PAGE = CHECKOUT / "docs" / "operating.md"
UNIT = CHECKOUT / "deploy" / "box" / "thingsvision-server.service"

CHANGES_THE_SYSTEM = re.compile(
    r"useradd |usermod |python3 -m venv |\S+/bin/pip |ln -sfn |systemctl |cp deploy/|export PATH="
)
"""Commands that are not run here."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with what the page has in /etc, /var/lib, /run, a home, and commands."""
    for name in ("home", "bin", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    for name in ("server", "client"):
        command = tmp_path / "bin" / f"thingsvision-{name}"
        main = {"server": "thingsvision_server", "client": "thingsvision_client.cli"}[name]
        command.write_text(
            f"#!/bin/sh\nexec {sys.executable} -c 'import sys; from {main} import main; "
            f'sys.argv[0] = "thingsvision-{name}"; main()\' "$@"\n'
        )
        command.chmod(0o755)
    return tmp_path


def local(text: str, root: Path) -> str:
    """Return a command or a file of the page with this test's folders, and its own user."""
    for theirs, ours in {
        "/etc/thingsvision": root / "etc",
        "/var/lib/thingsvision": root / "lib",
        "/run/thingsvision": root / "run",
        "/opt/thingsvision-0.2.0/bin": root / "bin",
        "/opt/thingsvision/bin": root / "bin",
    }.items():
        text = text.replace(theirs, str(ours))
    text = re.sub(r"\bsudo (-u thingsvision )?", "", text)
    return text.replace("-o thingsvision -g thingsvision ", "")


def commands() -> Iterator[str]:
    """Yield the commands of the page, one by one, in order."""
    for block in blocks(PAGE):
        if block.language == "bash":
            yield from block.code.replace("\\\n", "").splitlines()


class Shell:
    """Runs the page's commands, each with what was exported before."""

    def __init__(self, root: Path) -> None:
        self._root = root
        path = os.pathsep.join([str(root / "bin"), os.environ["PATH"]])
        clean = {k: v for k, v in os.environ.items() if not k.startswith("THINGSVISION_")}
        self._env = clean | {"PATH": path, "HOME": str(root / "home")}
        self.ran: dict[str, str] = {}

    def run(self, command: str) -> None:
        """Run a command once; an export counts for the later ones."""
        command = local(command, self._root)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._env[name] = value.replace("$HOME", self._env["HOME"])
        elif command not in self.ran or "status" in command:
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=self._root,
                env=self._env,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            self.ran[command] = done.stdout

    def said(self, words: str) -> str:
        """Return what the first command with these words printed."""
        return next(out for command, out in self.ran.items() if words in command)


def test_the_steps_lead_to_a_server_that_people_use(root: Path) -> None:
    shell = Shell(root)
    (options,) = (one.code for one in blocks(PAGE) if one.language == "toml")
    before, after = [], []
    for command in commands():
        if not CHANGES_THE_SYSTEM.search(command):
            wanted = after if "config/thingsvision" in command or after else before
            wanted.append(command)
    for command in before:
        if "doctor" in command:
            config = root / "etc" / "thingsvision-server.toml"
            config.write_text(local(options, root))
        shell.run(command)
    assert shell.said("token list").count(" valid until ") == 1
    assert "FAILED" not in shell.said("doctor")
    (root / "my-token.txt").write_text(shell.said("--name ada").split()[-1] + "\n")
    shutil.copy(root / "ca.pem", root / "home")
    for name in ("server.key", "tokens.json"):
        assert stat.S_IMODE((root / "etc" / name).stat().st_mode) == 0o600
    (start,) = re.findall(r"^ExecStart=\S+/thingsvision-server (.*)$", UNIT.read_text(), re.M)
    flag, file = local(start, root).split()
    assert (flag, file) == ("--config", str(config))
    with server_process(root, config=file, weights_dir=None) as server:
        port = server.address.rpartition(":")[2]
        for command in after:
            shell.run(command.replace("gpu.lab.example:50051", f"localhost:{port}"))
        assert '"person": "ada"' in server.log
        assert f"unix:{root}/run/server.sock" in (root / "server.out").read_text()
    statuses = [out for command, out in shell.ran.items() if "client status" in command]
    assert all("cpu" in one for one in statuses)
    with_key = subprocess.run(
        ["tar", "--list", "--file", root / "thingsvision-backup.tar.gz"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "etc/tokens.json" in with_key


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_the_unit_is_valid_and_confines_the_server(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace("/opt/thingsvision/bin/thingsvision-server", "/bin/true")
    )
    said = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in unit.read_text()


def test_the_page_names_what_the_unit_has() -> None:
    page, unit = PAGE.read_text(), UNIT.read_text()
    for name in re.findall(r"\b(RuntimeDirectoryMode|drain_seconds)\b", page):
        assert name in unit
    assert "WorkingDirectory" not in unit
