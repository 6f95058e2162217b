"""Calls that fail before their first reply are made again, with all their requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from thingsvision_client.errors import (
    DeadlineError,
    NotFoundError,
    StoppedError,
    UnavailableError,
)
from thingsvision_client.rpc.call import Caller
from thingsvision_client.rpc.credentials import Credentials
from thingsvision_client.rpc.link import Link
from thingsvision_client.rpc.proxies import find_route
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MIB = 1024 * 1024
UNAVAILABLE, NOT_FOUND = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND

Behaviour = Callable[[Iterator[pb.Image], int, grpc.ServicerContext], Iterator[pb.Image]]
"""What a method replies to a stream of requests in its n-th call, from 0."""


class FailingServer(grpc.GenericRpcHandler):
    """A server of gRPC itself whose only method, of streams, behaves as a test says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.call_count = 0
        self._behaviour = behaviour

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        number = self.call_count
        self.call_count += 1

        def behave(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.Image]:
            return self._behaviour(requests, number, context)

        return grpc.stream_stream_rpc_method_handler(
            behave, pb.Image.FromString, pb.Image.SerializeToString
        )


@contextmanager
def calling(
    behaviour: Behaviour, timeout_s: float | None = None
) -> Iterator[tuple[FailingServer, Caller, Any]]:
    """Run such a server, and return it with a caller and the method."""
    handler = FailingServer(behaviour)
    server = grpc.server(ThreadPoolExecutor(8), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    link = Link(find_route(f"127.0.0.1:{port}", proxy=True), Credentials())
    method = link.channel.stream_stream(
        "/test/Exchange", pb.Image.SerializeToString, pb.Image.FromString
    )
    try:
        yield handler, Caller(link, timeout_s), method
    finally:
        link.channel.close()
        server.stop(0)


def images(count: int, size: int = 1) -> Iterator[pb.Image]:
    """Requests that can be iterated once."""
    return (pb.Image(index=index, encoded=b"x" * size) for index in range(count))


def fail_after(request_count: int, until_call: int, code: grpc.StatusCode = UNAVAILABLE) -> Any:
    """Return a behaviour: it fails after so many requests, and echoes from that call on."""

    def behave(requests: Any, number: int, context: grpc.ServicerContext) -> Iterator[pb.Image]:
        if number < until_call:
            for _ in range(request_count):
                next(requests)
            context.abort(code, "not now")
        yield from requests

    return behave


@pytest.mark.parametrize("taken_count", [0, 1, 5, 20])
@pytest.mark.parametrize("failing_count", [1, 3])
def test_another_attempt_sends_all_requests_of_a_generator(
    taken_count: int, failing_count: int
) -> None:
    with calling(fail_after(taken_count, failing_count)) as (server, caller, method):
        replies = list(caller.exchange(method, images(20)))
        assert server.call_count == failing_count + 1
    assert [reply.index for reply in replies] == list(range(20))


def test_there_are_four_attempts() -> None:
    with calling(fail_after(1, 9)) as (server, caller, method):
        with pytest.raises(UnavailableError, match="not now"):
            list(caller.exchange(method, images(3)))
        assert server.call_count == 4


def test_other_failures_are_final() -> None:
    with calling(fail_after(1, 9, NOT_FOUND)) as (server, caller, method):
        with pytest.raises(NotFoundError, match="not now"):
            list(caller.exchange(method, images(3)))
        assert server.call_count == 1


def test_a_call_that_had_a_reply_is_not_made_again() -> None:
    def behave(requests: Any, _: int, context: grpc.ServicerContext) -> Iterator[pb.Image]:
        yield next(requests)
        context.abort(UNAVAILABLE, "gone")

    with calling(behave) as (server, caller, method):
        replies = caller.exchange(method, images(3))
        assert next(replies).index == 0
        with pytest.raises(UnavailableError, match=r"lost before the reply was complete \(gone\)"):
            next(replies)
        assert server.call_count == 1


def test_requests_beyond_the_largest_message_are_not_kept_for_another_attempt() -> None:
    with calling(fail_after(66, 9)) as (server, caller, method):
        with pytest.raises(UnavailableError):
            list(caller.exchange(method, images(70, MIB)))
        assert server.call_count == 1


def test_a_request_may_wait_for_the_first_reply_of_whichever_attempt() -> None:
    """As those of an upload do, which starts where the server says."""
    has_reply = threading.Event()

    def requests() -> Iterator[pb.Image]:
        yield pb.Image(index=0)
        assert has_reply.wait(30)
        yield pb.Image(index=1)

    with calling(fail_after(1, 2)) as (_, caller, method):
        found = []
        for reply in caller.exchange(method, requests()):
            found.append(reply.index)
            has_reply.set()
    assert found == [0, 1]


def test_a_failure_of_making_requests_is_raised_as_it_is() -> None:
    def requests() -> Iterator[pb.Image]:
        yield pb.Image(index=0)
        raise KeyError("no such file")

    with calling(fail_after(2, 9)) as (server, caller, method):
        with pytest.raises(KeyError, match="no such file"):
            list(caller.exchange(method, requests()))
        assert server.call_count == 1


def test_all_attempts_together_keep_to_the_timeout() -> None:
    started = time.monotonic()
    with calling(fail_after(0, 9), timeout_s=1.5) as (server, caller, method):
        with pytest.raises(UnavailableError):
            list(caller.exchange(method, images(1)))
        assert 1 < server.call_count < 4
    assert time.monotonic() - started < 2, "four attempts take longer"


def test_a_server_that_does_not_answer_in_time_is_told_from_a_missing_connection() -> None:
    def behave(_: Any, __: int, context: grpc.ServicerContext) -> Iterator[pb.Image]:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)
        yield from ()

    with (
        calling(behave, timeout_s=0.5) as (_, caller, method),
        pytest.raises(DeadlineError, match="did not answer within the timeout"),
    ):
        list(caller.exchange(method, images(1)))


def test_a_closed_client_says_so() -> None:
    with calling(fail_after(0, 0)) as (_, caller, method):
        caller.link.channel.close()
        for call in (caller.exchange(method, images(1)), caller.listen(method, images(1))):
            with pytest.raises(StoppedError, match="was closed: make another"):
                list(call)


def test_an_attempt_that_failed_takes_no_request_from_the_next() -> None:
    """Its thread may still run: requests are made slowly, in whichever thread."""

    def slow() -> Iterator[pb.Image]:
        for image in images(40):
            time.sleep(0.02)
            yield image

    with calling(fail_after(1, 3)) as (_, caller, method):
        replies = list(caller.exchange(method, slow()))
    assert [reply.index for reply in replies] == list(range(40))
