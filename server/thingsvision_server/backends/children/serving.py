"""Serves the server's requests in a child process, until the server lets it go.

One channel builds networks; others, which the server opens as it needs them, run passes. A channel
without messages closes when the server has no more use for the child.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import traceback
from threading import Thread
from typing import Any

from . import sandbox
from .channel import Channel, Message, PeerGoneError, close_all


def serve_child(module: Any, request: Message, *, build: int, life: int) -> None:
    """Confine this process as the request says, then answer with the module's `Service`."""
    faulthandler.enable(sys.stderr)
    channel = Channel(socket.socket(fileno=build))
    service = module.Service()
    try:
        service.prepare(request["settings"])
        rules = request["rules"]
        isolation = sandbox.confine(sandbox.Rules(**rules)) if rules else {}
    # The edge of this process: the server reports what can't be used.
    except Exception as error:
        channel.send({"error": "start", "message": f"{type(error).__name__}: {error}"})
        return
    channel.send({"isolation": isolation})
    _start(channel, service)
    lives = socket.socket(fileno=life)
    while lives.recv(1):
        pass
    # Exit at once: nobody waits for a batch that is still running.
    os._exit(0)


def _start(channel: Channel, service: Any) -> None:
    Thread(target=_serve_until_closed, args=(channel, service), daemon=True).start()


def _serve_until_closed(channel: Channel, service: Any) -> None:
    try:
        while True:
            request, descriptors = channel.receive()
            if request["call"] == "connect":
                _start(Channel(socket.socket(fileno=descriptors[0])), service)
                channel.send({})
            else:
                reply = _answer(request, descriptors, service)
                close_all(descriptors)
                _send(channel, reply)
    except PeerGoneError:
        return
    finally:  # the server would wait for ever for a thread that is gone
        channel.socket.close()


def _send(channel: Channel, reply: Message) -> None:
    """Send a reply, or that it can't be sent: it may hold what a file had for a text."""
    try:
        channel.send(reply)
    except (TypeError, ValueError, RecursionError):
        channel.send({"error": "bug", "message": traceback.format_exc()})


def _answer(request: Message, descriptors: list[int], service: Any) -> Message:
    try:
        reply: Message = getattr(service, request["call"])(request, descriptors)
    # The edge of this process: any exception becomes a reply; a bug's has its traceback.
    except Exception as error:
        known: Message | None = service.describe_error(error)
        return known or {"error": "bug", "message": traceback.format_exc()}
    return reply
