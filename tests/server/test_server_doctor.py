"""`thingsvision-server doctor` says what a server with these options would meet."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

import thingsvision_server
from thingsvision_server.start.doctor import main


def findings(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[list[str], int]:
    """Return each finding as its name and state, and the exit code."""
    code = 0
    try:
        main(["--json", *map(str, arguments)])
    except SystemExit as error:
        code = int(str(error.code))
    found = json.loads(capsys.readouterr().out)
    return [f"{one['name']} {one['state']}: {one['text']}" for one in found], code


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--weights-dir", tmp_path, "--device", "cpu", "--port", 0, "--metrics-port", 0)
    found, code = findings(capsys, *chosen)
    assert code == 0, found
    assert not [one for one in found if " FAILED:" in one]
    assert {one.partition(" ")[0] for one in found} >= {"versions", "options", "device", "memory"}
    assert any(one.startswith("TensorFlow ok: 2.") for one in found)


def test_each_mistake_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o777)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found, code = findings(
            capsys,
            *("--weights-dir", tmp_path, "--port", port, "--device", "cuda:7"),
            *("--image-root", tmp_path / "none", "--tensorflow-python", "/bin/false"),
        )
    assert code == 1
    told = "\n".join(found)
    assert "options FAILED: --image-root must be a folder" in told
    assert f"ports note: can't listen on 127.0.0.1:{port}" in told
    assert "device FAILED: `device` must be auto or one of cpu, got 'cuda:7'" in told
    assert f"chmod o-w {tmp_path}" in told
    assert "TensorFlow note: Keras models can't be loaded: /bin/false" in told


def test_a_wrong_option_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    found, code = findings(capsys, "--prot", "7")
    assert code == 1
    assert "Did you mean --port?" in found[-1]


def test_the_command_prints_a_line_per_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["doctor", "--port", "x"]
    monkeypatch.setattr("sys.argv", ["thingsvision-server", *arguments])
    with pytest.raises(SystemExit):
        thingsvision_server.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok     versions")
    assert lines[1].startswith("FAILED options     --port")
