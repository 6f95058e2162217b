"""Downloads files of weights, and says within seconds if their host can't be reached."""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ...shared_folder.unfinished import finish, unfinished_file
from ...shortages import raise_shortage

ANSWER_SECONDS = 15.0
"""How long a host may take to answer, its name servers and all its addresses included."""

_CHUNK_BYTES = 1024 * 1024
_MD5_DIGITS = 32
_OF_GATEWAYS = (
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""Statuses of a proxy or a gateway that does not reach the host."""


class DownloadError(OSError):
    """A file could not be downloaded; `host` could not be reached, unless that is empty."""

    def __init__(self, reason: str, host: str = "") -> None:
        super().__init__(reason)
        self.host = host


def download_file(url: str, target: Path, digest: str = "") -> None:
    """Write the file at a URL to `target`, which appears when it is complete.

    `digest` is its MD5, or its SHA-256 or the first digits of that. Raises DownloadError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    host = urlsplit(url).hostname or url
    try:
        with unfinished_file(target.parent) as file:
            _copy(_open(url), file, digest)
            finish(file, target)
    except DownloadError:
        raise
    except OSError as error:
        raise_shortage(error)
        raise DownloadError(f"{host} sent nothing more: {error}", host) from error


def download_from_hub(repository: str, files: Sequence[str], cache: Path) -> Path:
    """Return the first of several files that a repository has, downloaded. Raises DownloadError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    check_hub()
    missing: Exception | None = None
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, cache_dir=cache))
        except LocalEntryNotFoundError as error:
            raise_shortage(error)
            raise DownloadError("the hub can't be reached", _hub_host()) from error
        except EntryNotFoundError as error:
            missing = error
        except OSError as error:  # no such repository, no access to it
            raise_shortage(error)
            raise DownloadError(str(error).partition("\n")[0]) from error
    raise DownloadError(f"{repository} has none of the files {', '.join(files)}") from missing


def check_hub() -> None:
    """Raise DownloadError if the hub of Hugging Face does not answer.

    Its library alone would try for minutes.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DownloadError(
            "the hub can't be reached: HF_HUB_OFFLINE is set in the server's environment",
            _hub_host(),
        )
    try:
        _open(constants.ENDPOINT, method="HEAD").close()
    except DownloadError as error:
        if error.host:
            raise DownloadError(f"the hub can't be reached: {error}", error.host) from error


def _hub_host() -> str:
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname or str(constants.ENDPOINT)


def _open(url: str, method: str = "GET") -> Any:
    """Return the reply to a request for a URL. Raises DownloadError.

    A timeout of a socket bounds neither name servers nor the number of addresses: a thread does.
    """
    host = urlsplit(url).hostname or url
    outcome: list[Any] = []

    def ask() -> None:
        request = urllib.request.Request(  # noqa: S310 - the URLs are the sources' own
            url, method=method, headers={"User-Agent": "thingsvision-server"}
        )
        try:
            outcome.append(urllib.request.urlopen(request, timeout=ANSWER_SECONDS))  # noqa: S310
        except (OSError, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, name="download", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if not outcome:
        raise DownloadError(f"{host} does not answer within {ANSWER_SECONDS:g} s", host)
    reply = outcome[0]
    if isinstance(reply, HTTPError):
        reply.close()
        text = f"{host} answers with HTTP status {reply.code} ({reply.reason})"
        raise DownloadError(text, host if reply.code in _OF_GATEWAYS else "")
    if isinstance(reply, Exception):
        reason = reply.reason if isinstance(reply, URLError) else reply
        raise_shortage(reply)
        raise DownloadError(f"{host} does not answer ({reason})", host)
    return reply


def _copy(reply: Any, file: Any, digest: str) -> None:
    kind = "md5" if len(digest) == _MD5_DIGITS else "sha256"
    found = hashlib.new(kind, usedforsecurity=False)
    left = int(reply.headers.get("Content-Length") or -1)
    with reply:
        while chunk := reply.read(_CHUNK_BYTES):
            found.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if left > 0:
        raise OSError(f"{left:,} bytes are missing")
    if not found.hexdigest().startswith(digest):
        raise DownloadError(f"its {kind} must begin with {digest}, got {found.hexdigest()}")
