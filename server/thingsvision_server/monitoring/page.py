"""The page /metrics for Prometheus, which asks for a token where other machines reach it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from ..errors import ThingsvisionError, UnauthenticatedError

_SECONDS = 10
"""How long a client may take to ask."""

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Log nothing: the page is asked for every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


def open_page(
    host: str,
    port: int,
    registry: CollectorRegistry,
    *,
    admit: Callable[[str], None] | None = None,
    encryption: ssl.SSLContext | None = None,
) -> WSGIServer:
    """Listen for who asks for the page. Raises OSError if the port is taken.

    Args:
        host: The address to listen on.
        port: The HTTP port.
        registry: The metrics on the page.
        admit: Gets the header `authorization` of each request, and raises the error of those who
            may not read the page; None: all may.
        encryption: What encrypts the page; None: nothing does.

    """
    page: _App = make_wsgi_app(registry)
    app = page if admit is None else _asking(page, admit)
    kind = _IPv6Server if ":" in host else _Server
    http = make_server(host, port, app, server_class=kind, handler_class=_Handler)
    if encryption is not None:
        # The handshake is left to the thread of the connection: a slow client delays nobody.
        http.socket = encryption.wrap_socket(
            http.socket, server_side=True, do_handshake_on_connect=False
        )
    return http


@contextmanager
def serving(http: WSGIServer) -> Iterator[None]:
    """Answer requests for the page while the context lasts."""
    threading.Thread(target=http.serve_forever, name="metrics", daemon=True).start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()


def _asking(page: _App, admit: Callable[[str], None]) -> _App:
    """Return the page for those who are admitted."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            admit(str(environ.get("HTTP_AUTHORIZATION", "")))
        except ThingsvisionError as error:
            unknown = isinstance(error, UnauthenticatedError)
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            headers += [("WWW-Authenticate", "Bearer")] if unknown else []
            start_response("401 Unauthorized" if unknown else "403 Forbidden", headers)
            return [f"{error}\n".encode()]
        return page(environ, start_response)

    return app
