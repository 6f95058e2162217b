"""A server of this environment, private to who starts it, while a script or a notebook needs it."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..client import Client
from ..errors import InvalidRequestError, MissingDependencyError, ServerError
from ..rpc import address
from ..rpc.connection import Connection

_READY = "thingsvision-server listening on "
_NOT_INSTALLED = "pip install"
"""What the server says if a package of it is missing, or its Python is too old, ends with it."""

_OWN_WORDS = "thingsvision-server: "

_INVALID = ("is not an option", "is not a variable", "can't be", " must ")
"""What the server says if its options, its environment or its file have a mistake."""

_START_SECONDS = 180
_STOP_SECONDS = 5
"""A server that still imports its libraries would take longer, with nothing to lose."""
_LOOK_SECONDS = 0.1
_LAST_LINES = 15

_DEFAULTS = {"metrics_port": 0, "log_format": "console", "drain_seconds": 0}
_LOOPBACK: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
"""Where it listens without a socket: every user of this machine reaches a port."""

_PORT_OPTIONS = frozenset(("host", "port", "tls_cert", "tls_key", "insecure"))
"""Options that ask for a port."""

_PREFIX, _SOCKET = "thingsvision-", "server.sock"
_MOST_SOCKET_BYTES = 103
"""What macOS takes as the path of a socket; Linux takes a few more."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""Other characters would need an escape in the address of a socket."""

_open_servers: set[LocalServer] = set()


class LocalServer(Client):
    """The client of a server that `local_server` started, which `close` ends.

    Args:
        server: Address of the server, `unix:PATH` or host:port.
        process: Its process.
        log_file: File that it logs to. `close` deletes its folder, which has the socket, too.

    Attributes:
        process_id: Id of the server's process.
        log_file: File that it logs to.

    Example:
        ```python
        from thingsvision_client import local_server

        with local_server() as client:
            print(client.process_id, client.server, client.log_file.stat().st_size)
        ```

    """

    def __init__(self, server: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
        super().__init__(server)
        self.process_id, self.log_file = process.pid, log_file
        self._process, self._owner = process, os.getpid()
        self._earlier_default = address.replace_default_address(self.server)
        _open_servers.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a client, since the process of the server belongs to this object."""
        return _copy_client, (self.__getstate__(),)

    def close(self) -> None:
        """End every call, and the server with its log.

        Example:
            ```python
            from thingsvision_client import local_server

            client = local_server()
            print(client.residency().devices)
            client.close()
            ```

        """
        super().close()
        if self not in _open_servers or self._owner != os.getpid():
            return
        _open_servers.discard(self)
        address.replace_default_address(self._earlier_default, only_if=self.server)
        _end(self._process)
        _delete(self.log_file.parent)


def _copy_client(connection: Connection) -> Client:
    client = Client.__new__(Client)
    client.__setstate__(connection)
    return client


def local_server(**options: Any) -> LocalServer:
    """Start a server of this environment, for this process and its children; return its client.

    It listens on a socket in a folder of its own (0700), which no other user of this machine can
    open; on Windows on a free port of this machine. `client.server` is its address for other
    programs of yours, and `port=0` asks for a port: every user of this machine reaches that.

    It is the default server of the process meanwhile, as with `connect`. It ends with the `with`
    block, with `close`, or with this process, also if that is killed. Its start, which takes some
    seconds, is told on stderr. `thingsvision-service[server]` must be installed.

    Args:
        **options: Options of `thingsvision-server`, such as `device="cpu"`, `weights_dir="weights"`
            or `allow_download=False`.

    Returns:
        The client, with two more attributes: `process_id`, and `log_file` of the server.

    Raises:
        MissingDependencyError: The server is not installed in this environment.
        ServerError: The server did not start.
        InvalidRequestError: An option that the server does not have.

    Example:
        ```python
        from thingsvision_client import local_server

        with local_server() as client:
            extraction = client.extract("torchvision/alexnet@random:0", "photos", "features.10")
        print(extraction.features["features.10"].shape)
        ```

    """
    folder = _make_folder()
    log = folder / "server.log"
    own = {"parent": os.getpid(), "parent_folder": folder}
    flags = _flags(_DEFAULTS | _choose_listener(folder, options) | options | own)
    _say("Starting a server on this machine; it imports its libraries first.")
    began = time.monotonic()
    with log.open("wb") as log_file:
        process = _start(flags, log_file)
    try:
        server = _wait_until_ready(process, log)
    except BaseException:
        _end(process)
        _delete(folder)
        raise
    client = LocalServer(server, process, log)
    seconds = time.monotonic() - began
    _say(
        f"The server (process {process.pid}) listens on {server} after {seconds:.0f} s; its log is "
        f"{log}."
    )
    return client


def _make_folder() -> Path:
    """Return a new folder that only this user may open, in the usual place if it fits a socket."""
    usual = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if _can_have_socket(usual) or os.name != "posix" or not os.access("/tmp", os.W_OK):  # noqa: S108
        return usual
    usual.rmdir()
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))


def _choose_listener(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    if {"unix", "mtls_port"} & options.keys():
        return {}
    if _PORT_OPTIONS & options.keys() or not _can_have_socket(folder):
        return _LOOPBACK
    return {"unix": folder / _SOCKET}


def _can_have_socket(folder: Path) -> bool:
    path = str(folder / _SOCKET)
    is_plain = _PLAIN_PATH.fullmatch(path) is not None
    return os.name == "posix" and is_plain and len(path) <= _MOST_SOCKET_BYTES


def _flags(options: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            flags.append(f"--{option}={os.fspath(value) if isinstance(value, Path) else value}")
    return flags


def _start(flags: list[str], log: Any) -> subprocess.Popen[bytes]:
    """Return the process of a server, in a session of its own.

    Jupyter sends the interrupt of a cell to all processes of the kernel's session.
    """
    return subprocess.Popen(  # noqa: S603 - this environment's own server
        [sys.executable, "-m", "thingsvision_server", *flags],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # What lies in the current folder is not the server's.
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that a server prints. Raises an error with what else it says."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        lines = log.read_text("utf-8", "replace").splitlines(keepends=True)
        ready = [line for line in lines if line.startswith(_READY) and line.endswith("\n")]
        addresses = [line.removeprefix(_READY).strip() for line in ready]
        if addresses:
            return next((one for one in addresses if one.startswith("unix:")), addresses[0])
        if has_ended:
            raise _start_error(lines)
        time.sleep(_LOOK_SECONDS)
    raise ServerError(f"The server did not start within {_START_SECONDS} s; its log is {log}.")


def _start_error(lines: list[str]) -> Exception:
    own = [line for line in lines if line.startswith(_OWN_WORDS)]
    said = "".join(own or lines[-_LAST_LINES:]).strip()
    if _NOT_INSTALLED in said:
        return MissingDependencyError(f"A local server can't start: {said}")
    if any(words in said for words in _INVALID):
        return InvalidRequestError(f"The options of the server are not all valid: {said}")
    return ServerError(f"The server did not start: {said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server, with the calls that run; kill it if it does not end in time."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@atexit.register
def _close_all() -> None:
    for server in [*_open_servers]:
        server.close()
