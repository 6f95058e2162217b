"""Calls whose messages are any bytes."""

from __future__ import annotations

from collections.abc import Callable

import grpc

RawCall = Callable[[str, list[bytes]], grpc.RpcError]
"""Sends bytes as the messages of a method, and returns the error that answers them."""
