"""Where the server listens, and what its listeners ask of callers, by the settings."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .access.audit import AuditLog
from .access.register import Register
from .access.tokens_file import read_register
from .access.watched import Watched
from .errors import PreconditionError
from .monitoring.metrics import Metrics
from .monitoring.page import open_page, serving
from .rpc.encryption import ServerTLS, TLSFiles
from .rpc.entrance import Entrance
from .rpc.server import Listener
from .settings import Settings
from .settings.listeners import find_listening_mistakes, is_loopback, socket_path
from .settings.sentences import listening_address

_WATCH_SECONDS = 2.0
"""How often files are looked at; a call of a revoked token ends within 10 s."""


@dataclass(frozen=True)
class Access:
    """What lets calls in: the entrance, the listeners, and the files behind them."""

    entrance: Entrance
    listeners: tuple[Listener, ...]
    files: tuple[Watched[Register] | ServerTLS, ...]
    tls: ServerTLS | None
    """The encryption of the ordinary listener."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read files again that change, and end calls that are no longer allowed."""
        task = asyncio.create_task(self._watch(), name="watch access")
        try:
            yield
        finally:
            task.cancel()

    def look(self) -> None:
        """Read files again that changed."""
        for file in self.files:
            file.look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            await asyncio.to_thread(self.look)
            self.entrance.end_invalid()


def make_access(settings: Settings, metrics: Metrics) -> Access:
    """Return what lets calls in.

    Raises PreconditionError for files that can't be used, and for listeners that would let in
    people whom nobody asks who they are.
    """
    if mistakes := list(find_listening_mistakes(settings)):
        raise PreconditionError("; ".join(mistakes))

    def report(kind: str) -> Callable[[bool], None]:
        return lambda broken: metrics.broken_files.labels(kind).set(broken)

    register = None
    if settings.tokens is not None:
        path = settings.tokens.expanduser()
        read = partial(read_register, path)
        register = Watched("the tokens file", [path], read, report("tokens"))
    tls = _make_tls(settings, None, report("certificates"))
    mutual = None
    if settings.mtls_port is not None:
        mutual = _make_tls(settings, settings.client_ca, report("client_certificates"))
    entrance = Entrance(
        register,
        settings.contact,
        AuditLog(settings.audit_log and settings.audit_log.expanduser()),
        socket_is_gateway=settings.unix_gateway,
    )
    listeners = tuple(_make_listeners(settings, tls, mutual))
    files = tuple(one for one in (register, tls, mutual) if one is not None)
    return Access(entrance, listeners, files, tls)


@contextmanager
def metrics_page(settings: Settings, metrics: Metrics, access: Access) -> Iterator[int]:
    """Serve the page of metrics while the context lasts; yield its port.

    Raises OSError if the port is taken.

    Where other machines reach it, it asks for a token with the scope `read`, and is encrypted, if
    the server has tokens and a certificate.
    """
    host = settings.metrics_host.strip("[]")
    port = 0 if settings.metrics_port == "auto" else settings.metrics_port
    is_open, tls = is_loopback(host), access.tls
    admit = None if is_open or settings.tokens is None else access.entrance.admit_to_page
    encryption = None
    if tls is not None and not is_open:
        encryption = tls.page_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    try:
        http = open_page(host, port, metrics.registry, admit=admit, encryption=encryption)
    except OSError as error:
        address = listening_address(host, port)
        raise OSError(f"can't listen on {address} for metrics: {error.strerror}") from error
    with serving(http):
        yield http.server_port


def _make_tls(
    settings: Settings, authorities: Path | None, report: Callable[[bool], None]
) -> ServerTLS | None:
    files = [settings.tls_cert, settings.tls_key, authorities]
    certificate, key, trusted = (one and one.expanduser() for one in files)
    if certificate is None or key is None:
        return None
    return ServerTLS(TLSFiles(certificate, key, trusted), report)


def _make_listeners(
    settings: Settings, tls: ServerTLS | None, mutual: ServerTLS | None
) -> Iterator[Listener]:
    host = settings.host
    if settings.tcp:
        address = listening_address(host, settings.port)
        yield Listener(address, tls.credentials() if tls else None)
    if mutual is not None and settings.mtls_port is not None:
        yield Listener(listening_address(host, settings.mtls_port), mutual.credentials())
    if path := socket_path(settings):
        # The folder decides who reaches it; tokens who may do what.
        yield Listener(f"unix:{path}", mode=0o600 if settings.tokens is None else 0o660)
