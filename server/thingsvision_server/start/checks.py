"""Finds mistakes in the settings that can be told before any library is loaded."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ..access.image_roots import parse_image_roots
from ..announcing import find_announcing_doubts, find_announcing_mistakes
from ..errors import PreconditionError
from ..host import host_memory, machine_core_count
from ..settings import Settings
from ..settings.environment import PREFIX, find_service_links, find_unknown
from ..settings.listeners import find_listening_mistakes
from ..settings.sentences import flag_of, listening_address, size_of, too_much
from .access_files import find_file_mistakes

_BUDGETS = (
    "host_memory",
    "staging_memory",
    "decode_memory",
    "rdm_memory",
    "rdm_features_memory",
)
"""Options that are memory of the host, whatever the device is."""

_HELD = ("host_memory", "staging_memory")
"""Memory that is held beside the models of a CPU."""

_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvhost-ctrl", "/dev/nvmap")
"""Files of which Linux has one if there is a GPU."""


def check_settings(settings: Settings) -> None:
    """Exit with a sentence for each mistake, if there is any."""
    if mistakes := list(find_mistakes(settings)):
        sys.exit("\n".join(f"thingsvision-server: {mistake}" for mistake in mistakes))


def find_mistakes(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each mistake; folders of weights that are missing are made."""
    yield from _check_folders(settings)
    yield from _check_budgets(settings)
    yield from find_file_mistakes(settings)
    yield from find_listening_mistakes(settings)
    yield from find_announcing_mistakes(settings)
    yield from check_ports(settings)
    if "tensorflow_python" in settings.model_fields_set:
        program = settings.tensorflow_python
        if shutil.which(program) is None:
            yield f"--tensorflow-python must be a Python interpreter, got {program!r}"


def find_doubts(settings: Settings) -> Iterator[str]:
    """Yield a sentence for what may be a mistake, and does not keep the server from working."""
    names = [name.upper() for name in Settings.model_fields]
    for variable in find_unknown(os.environ, names):
        yield f"{variable} is not a variable that the server knows, and changes nothing"
    links = find_service_links(os.environ)
    if f"{PREFIX}PORT" in links or f"{PREFIX}METRICS_PORT" in links:
        yield (
            f"{', '.join(name for name in links if name.endswith('_PORT'))} was set by Kubernetes "
            "for a service, and is ignored; set ports with --port and --metrics-port, or set "
            "enableServiceLinks: false"
        )
    yield from find_announcing_doubts(settings)
    if settings.node_share is not None and machine_core_count() * settings.node_share < 1:
        yield (
            f"--node-share {settings.node_share:g} is less than a core of {machine_core_count()}: "
            "this server uses one, and servers with such shares more than there are"
        )
    weights = settings.weights_dir.expanduser()
    if not os.access(weights, os.W_OK | os.X_OK):
        yield (
            f"--weights-dir {weights} can't be written to: downloads, uploads, cached images and "
            "PCAs will fail"
        )


def _check_folders(settings: Settings) -> Iterator[str]:
    yield from _check_weights(settings.weights_dir.expanduser(), settings)
    yield from _check_image_roots(settings)
    if settings.spill_dir is not None:
        yield from _check_readable("--spill-dir", settings.spill_dir, writable=True)


def _check_image_roots(settings: Settings) -> Iterator[str]:
    try:
        found = parse_image_roots(settings.image_root or []).roots
    except PreconditionError as error:
        yield str(error)
        return
    for root in found:
        yield from _check_readable("--image-root", root.path)
    if settings.tokens is None and any(root.readers for root in found):
        yield "--image-root with names of people needs --tokens, which says who is who"


def _check_weights(folder: Path, settings: Settings) -> Iterator[str]:
    """Make the folder of weights if only that is missing: another path is a mistake in typing."""
    is_named = "weights_dir" in settings.model_fields_set
    try:
        folder.mkdir(parents=not is_named, exist_ok=True)
    except OSError as error:
        why = {
            errno.EEXIST: "which is a file",
            errno.ENOTDIR: "which is below a file",
            errno.ENOENT: f"and there is no folder {str(folder.parent)!r} to make it in"
            if not folder.parent.exists()
            else "which can't be made there",
        }.get(error.errno or 0, f"which can't be made: {error.strerror}")
        yield f"--weights-dir must be a folder, got {str(folder)!r}, {why}"
    else:
        yield from _check_readable("--weights-dir", folder)


def _check_readable(option: str, folder: Path, *, writable: bool = False) -> Iterator[str]:
    """Yield the sentence if a folder can't be used."""
    wrong = f"{option} must be a folder, got {str(folder)!r}"
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        yield f"{wrong}, which does not exist"
    except NotADirectoryError:
        yield f"{wrong}, which is a file"
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        yield f"{wrong}, which can't be read: {why}"
    else:
        if writable and not os.access(folder, os.W_OK | os.X_OK):
            yield f"{option} must be a folder that the server can write to, got {str(folder)!r}"


def _check_budgets(settings: Settings) -> Iterator[str]:
    total = host_memory().total_bytes
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _may_have_gpu())
    names = [*(("device_memory",) if on_cpu else ()), *_BUDGETS]
    above = [name for name in names if (getattr(settings, name) or 0) > total]
    for name in above:
        yield too_much(name, getattr(settings, name), total)
    held = ("device_memory", *_HELD) if on_cpu else _HELD
    together = sum(getattr(settings, name) or 0 for name in held)
    if not above and together > total:
        options = " and ".join(flag_of(name) for name in held if getattr(settings, name))
        yield (
            f"{options} together must be at most {size_of(total)}, the memory that this server may "
            f"use, got {size_of(together)}"
        )


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any(Path(file).exists() for file in _GPU_FILES)


def check_ports(settings: Settings) -> Iterator[str]:
    """Yield what keeps the server from listening."""
    wanted = [("port", settings.host)] if settings.tcp else []
    wanted += [("mtls_port", settings.host)] if settings.mtls_port is not None else []
    wanted += [("metrics_port", settings.metrics_host)] if settings.metrics_port else []
    used: dict[int, str] = {}
    for option, _ in wanted:
        port = _fixed_port(settings, option)
        if port and port in used:
            yield f"{used[port]} and {flag_of(option)} must differ, got {port} for both"
            return
        used[port] = flag_of(option)
    for option, host in wanted:
        if sentence := _check_port(option, host, _fixed_port(settings, option)):
            yield sentence


def _fixed_port(settings: Settings, option: str) -> int:
    """Return the port that an option names; 0 for a free port."""
    found = getattr(settings, option)
    return 0 if found == "auto" else int(found)


def _check_port(option: str, host: str, port: int) -> str:
    """Return what keeps the server from listening on a port; empty if nothing does."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a name"
        flag = _host_flag(option)
        return f"{flag} must be a name or an address of this machine, got {host!r}: {reason}"
    failed = [error for error in (_try_to_bind(*one) for one in found) if error]
    taken = [error for error in failed if error.errno == errno.EADDRINUSE]
    # `localhost` is two addresses, of which a machine may lack one.
    if taken or len(failed) == len(found):
        return _explain((taken or failed)[0], listening_address(host, port), option)
    return ""


def _host_flag(option: str) -> str:
    return "--metrics-host" if option == "metrics_port" else "--host"


def _explain(error: OSError, address: str, option: str) -> str:
    """Return the sentence for a port that can't be listened on."""
    host_flag = _host_flag(option)
    special = "0: none, auto: a free port" if option == "metrics_port" else "0: a free port"
    other = f"choose another {flag_of(option)} ({special})"
    why = {
        errno.EADDRINUSE: f"another program does; stop it, or {other}",
        errno.EACCES: f"this user may not; {other}",
        errno.EADDRNOTAVAIL: f"this machine has no such address; choose another {host_flag}",
    }
    return f"can't listen on {address}: {why.get(error.errno or 0, error.strerror)}"


def _try_to_bind(
    family: int, kind: int, protocol: int, _name: str, place: tuple[object, ...]
) -> OSError | None:
    try:
        with socket.socket(family, kind, protocol) as probe:
            if sys.platform != "win32":  # there it would allow a port that is taken
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        return error
    return None
