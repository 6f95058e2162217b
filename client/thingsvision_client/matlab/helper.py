"""Answers MATLAB's requests one by one, until MATLAB ends, dies, or says so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from ..client import Client
from ..errors import ThingsvisionError
from ..values.version import client_version
from .exchange import Exchange, write_beat
from .operations import OPERATIONS, Operation, to_json
from .parent import Parent
from .request import open_client
from .sentences import in_matlab

PROTOCOL = 1
"""Number of the agreement with MATLAB's part, which grows with each change that both must know."""

_BEAT_S = 0.5
_SHORT_S, _LONG_S = 0.002, 0.02
_LIVELY_S = 1.0
"""How long after a request the next is looked for more often."""

_IDLE_S = 12 * 3600.0
"""The helper ends without a request for this long; MATLAB starts another when it needs one."""


class Helper:
    """The process that MATLAB started for a folder; `parent` is MATLAB's process id, or 0."""

    def __init__(self, folder: Path, parent: int) -> None:
        self._folder = folder.absolute()
        self._parent = Parent(self._folder, parent)
        self._clients: dict[str, Client] = {}
        self._beat_count = 0
        self._beat_at = self._asked_at = time.monotonic()

    def run(self) -> None:
        """Answer requests until the end; then nothing of the folder is left."""
        _leave_terminal()
        self._folder.chmod(0o700)
        self._beat()
        number = 1
        try:
            while self._goes_on():
                exchange = Exchange(self._folder, number)
                is_cancelled = exchange.is_cancelled()  # before: it comes after a complete request
                if not exchange.is_asked():
                    if is_cancelled:  # MATLAB failed to write the request
                        exchange.cancelled.set()
                        exchange.remove()
                        number += 1
                    else:
                        self._pause()
                    continue
                self._answer(exchange)
                number += 1
                self._asked_at = time.monotonic()
        finally:
            for client in self._clients.values():
                client.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, exchange: Exchange) -> None:
        """Answer a request in a thread, and watch meanwhile whether it is still wanted."""
        request = exchange.read()
        worker = Thread(target=self._work, args=(request, exchange), daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(_LONG_S)
            self._asked_at = time.monotonic()
            is_wanted = self._goes_on()
            if not exchange.cancelled.is_set() and (exchange.is_cancelled() or not is_wanted):
                exchange.cancelled.set()
                self._forget(request)  # closing the client ends its calls
            if not is_wanted:
                worker.join(1.0)
                return
        exchange.remove()

    def _work(self, request: dict[str, Any], exchange: Exchange) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer = self._try(request, exchange)
        said = (
            in_matlab(str(one.message)) for one in caught if issubclass(one.category, UserWarning)
        )
        told = list(dict.fromkeys(said))  # a call that asks the server twice is warned twice
        exchange.reply({**answer, "warnings": told})

    def _try(self, request: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        if request.get("protocol") != PROTOCOL:
            return _failure("WrongVersion", _wrong_version(int(request.get("protocol") or 0)))
        try:
            operation = Operation(partial(self._client, request), request, exchange)
            return {"ok": True, "result": to_json(OPERATIONS[request["op"]](operation))}
        except ThingsvisionError as error:
            return _failure(type(error).__name__.removesuffix("Error"), str(error))
        except (TypeError, ValueError) as error:
            return _failure("InvalidRequest", str(error))
        except Exception as error:
            traceback.print_exc()  # into the log, beside the requests
            return _failure("Failed", f"{type(error).__name__}: {error}")

    def _client(self, request: Mapping[str, Any]) -> Client:
        key = _key(request)
        if key not in self._clients:
            self._clients[key] = open_client(request.get("connection") or {})
        return self._clients[key]

    def _forget(self, request: Mapping[str, Any]) -> None:
        client = self._clients.pop(_key(request), None)
        if client is not None:
            client.close()

    def _goes_on(self) -> bool:
        """Tell whether MATLAB still wants the helper; shows that it runs."""
        now = time.monotonic()
        if now - self._beat_at < _BEAT_S:
            return True
        self._beat_at = now
        if not self._folder.is_dir() or (self._folder / "stop").exists():
            return False
        self._beat()
        return self._parent.is_alive() and now - self._asked_at < _IDLE_S

    def _beat(self) -> None:
        self._beat_count += 1
        write_beat(self._folder, self._beat_count)

    def _pause(self) -> None:
        is_lively = time.monotonic() - self._asked_at < _LIVELY_S
        time.sleep(_SHORT_S if is_lively else _LONG_S)


def _key(request: Mapping[str, Any]) -> str:
    return json.dumps(request.get("connection") or {}, sort_keys=True)


def _wrong_version(protocol: int) -> str:
    if protocol < PROTOCOL:
        return (
            "The folder +thingsvision in MATLAB is older than the Python package "
            f"thingsvision-service {client_version()}: take the folder of the same release."
        )
    return (
        f"The Python package thingsvision-service {client_version()} is older than the folder "
        "+thingsvision in MATLAB: pip install --upgrade thingsvision-service."
    )


def _failure(name: str, message: str) -> dict[str, Any]:
    return {"ok": False, "id": name, "message": in_matlab(message)}


def _leave_terminal() -> None:
    """Have Ctrl-C in MATLAB's terminal reach MATLAB alone, which then cancels the request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        with suppress(PermissionError):  # it leads a session already
            os.setsid()
