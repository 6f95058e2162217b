"""`local_server` starts a server on a free port, and ends it, whatever happens to its user."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import thingsvision_server
from thingsvision_client import Client, errors, local_server
from thingsvision_client.library import server_process
from thingsvision_client.library.server_process import LocalServer
from thingsvision_client.rpc import address
from thingsvision_server.parent import stop_with

END_SECONDS = 15

CHILD = """
import sys, time
from thingsvision_client import local_server

client = local_server(device="cpu", allow_download=False, weights_dir=sys.argv[1])
print(client.process_id, client.server, client.log_file, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_default_address", "")
    monkeypatch.delenv("THINGSVISION_SERVER", raising=False)


def wait_for_end(process_id: int) -> bool:
    """Return whether a process ends soon."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process_id):
            return True
        if psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
            return True  # of a container without init
        time.sleep(0.05)
    return False


def test_one_line_is_a_server_and_its_end(
    tmp_path: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    address.set_default_address("before:1")
    options = {"device": "cpu", "allow_download": False, "weights_dir": tmp_path}
    with local_server(**options) as client:
        assert isinstance(client, LocalServer)
        folder = client.log_file.parent
        assert client.server == f"unix:{folder}/server.sock"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not psutil.Process(client.process_id).net_connections("tcp"), "others could reach it"
        process = psutil.Process(client.process_id)
        with Client() as other:
            assert other.server == client.server
        found = client.extract("torchvision/squeezenet1_1@random:0", photos, "classifier.3")
        assert found.features["classifier.3"].shape == (len(photos), 1000, 1, 1)
        assert os.getsid(client.process_id) != os.getsid(0), "Ctrl-C of a cell would end it"
        copied = pickle.loads(pickle.dumps(client))
        assert type(copied) is Client
        assert copied.residency().devices
        copied.close()
        assert process.is_running()
    assert not process.is_running()
    assert not folder.exists()
    assert address.resolve_address() == "before:1"
    client.close()  # again
    said = capfd.readouterr().err
    assert said.startswith("Starting a server on this machine")
    assert f"(process {client.process_id}) listens on {client.server}" in said


@pytest.mark.skipif(sys.platform == "win32", reason="another signal")
def test_a_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        process_id, server, log = child.stdout.readline().split()
        with Client(server) as client:
            assert client.residency().devices
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert wait_for_end(int(process_id))
    assert not Path(log).parent.exists(), "the server deletes it, since its user can't"


@pytest.mark.parametrize(
    ("options", "listener"),
    [
        ({"port": 0}, {"host": "127.0.0.1", "port": 0}),
        ({"tls_cert": "a.pem"}, {"host": "127.0.0.1", "port": 0}),
        ({"unix": "own.sock"}, {}),
        ({"device": "cpu"}, {"unix": Path("/tmp/tv/server.sock")}),
    ],
)
def test_a_port_is_opened_only_if_it_is_asked_for(options: Any, listener: Any) -> None:
    assert server_process._choose_listener(Path("/tmp/tv"), options) == listener


@pytest.mark.parametrize("name", ["with a blank", "x" * 100, "50%"])
def test_a_folder_that_no_socket_can_be_in_is_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    folder = server_process._make_folder()
    try:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert server_process._can_have_socket(folder)
        assert not [*(tmp_path / name).iterdir()]
    finally:
        folder.rmdir()


def test_options_that_are_not_the_servers_are_named() -> None:
    with pytest.raises(errors.InvalidRequestError, match="--nonsense is not an option"):
        local_server(nonsense=1)
    with pytest.raises(errors.InvalidRequestError, match="--port can't be '-1'"):
        local_server(port=-1)
    with pytest.raises(errors.InvalidRequestError, match="--image-root must be a folder"):
        local_server(image_root="/nowhere")
    assert address._default_address == ""


def test_without_the_server_the_line_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "raise ModuleNotFoundError('No module named x', name='pydantic_settings')"
    (tmp_path / "pydantic_settings.py").write_text(missing)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(errors.MissingDependencyError) as caught:
        local_server()
    assert str(caught.value).endswith("pip install 'thingsvision-service[server]'")


def test_what_lies_in_the_current_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pydantic_settings.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.InvalidRequestError, match="--port can't be"):
        local_server(port=-1)


def test_an_old_python_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["thingsvision-server"])
    monkeypatch.setattr(sys, "version_info", (3, 10, 14, "final", 0))
    with pytest.raises(SystemExit) as caught:
        thingsvision_server.main()
    assert "needs Python 3.11 or newer, and this is 3.10" in str(caught.value)
    assert "'thingsvision-service[server]'" in str(caught.value)


def test_a_parent_that_has_ended_is_refused() -> None:
    with pytest.raises(SystemExit, match="--parent must be a running process"):
        stop_with(2**22 + 1)
