"""Every RPC, by every scope, and by tokens of every kind, over TLS."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.lab import FUTURE, PAST, Lab, bearer, call_outcome
from support.serving import TestServer
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.scopes import METHOD_SCOPES, OPEN_METHODS, Scope
from thingsvision_server.access.tokens import new_token

FILES = (pb.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
METHODS = sorted(
    f"/{service.full_name}/{rpc.name}"
    for file in FILES
    for service in file.services_by_name.values()
    for rpc in service.methods
)
REQUESTS = {
    # Without a source it would list all models.
    "/thingsvision.v1.FeatureService/ListModels": pb.ListModelsRequest(source="nowhere"),
}
REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def test_every_method_has_one_row() -> None:
    """A new RPC is denied to everybody until somebody says which scope it needs."""
    assert {*METHOD_SCOPES, *OPEN_METHODS} == set(METHODS)
    assert not METHOD_SCOPES.keys() & OPEN_METHODS


@pytest.fixture(scope="module")
def tokens(lab: Lab) -> dict[tuple[Scope, str], str]:
    """Tokens by scope and kind: each scope alone."""
    found = {}
    for scope in Scope:
        name = f"has-{scope.value}"
        found[scope, "right"] = lab.add_token(name, scope, expires=FUTURE)
        found[scope, "expired"] = lab.add_token(name, scope, expires=PAST)
        found[scope, "revoked"] = lab.add_token(name, scope, revoked=PAST)
        # The id of a token with another secret, and a token that nobody has.
        right = found[scope, "right"]
        found[scope, "other secret"] = f"tv_{right.split('_')[1]}_{new_token()[1].split('_')[2]}"
    return found


@pytest.fixture(scope="module")
def channel(
    tokens: dict[tuple[Scope, str], str], lab: Lab, lab_server: TestServer
) -> Iterator[grpc.Channel]:
    lab_server.running.access.look()  # the file has new rows
    with lab.channel(lab_server.address) as found:
        yield found


def outcome(channel: grpc.Channel, method: str, *shown: str) -> tuple[grpc.StatusCode, str]:
    """Call a method, whatever its kind, with a message that does little."""
    request = REQUESTS.get(method)
    content = b"" if request is None else request.SerializeToString()
    return call_outcome(channel, method, content, bearer(*shown))


@pytest.mark.parametrize("method", METHODS)
def test_who_may_call(
    method: str, channel: grpc.Channel, tokens: dict[tuple[Scope, str], str]
) -> None:
    needed = METHOD_SCOPES.get(method)
    for scope in Scope:
        code, said = outcome(channel, method, tokens[scope, "right"])
        if needed is None or scope in (needed, Scope.ADMIN):
            assert code not in REFUSALS, (scope, said)
        else:
            assert code is grpc.StatusCode.PERMISSION_DENIED, scope
            assert f"needs the scope `{needed.value}`" in said
            assert f"has {scope.value}: Ada of the lab gives" in said
        for kind in ("expired", "revoked", "other secret"):
            code, said = outcome(channel, method, tokens[scope, kind])
            assert needed is None or code is grpc.StatusCode.UNAUTHENTICATED, (scope, kind)
            assert needed is None or {"other secret": "not one of"}.get(kind, kind) in said
    strangers = [(), (new_token()[1],), ("",), ("tv_a_b",), ("x" * 4000,)]
    strangers.append((tokens[Scope.ADMIN, "right"],) * 2)
    for shown in strangers:
        code, said = outcome(channel, method, *shown)
        assert needed is None or code is grpc.StatusCode.UNAUTHENTICATED, shown
        assert needed is None or "Ada of the lab gives tokens" in said


def test_a_method_without_a_row_is_denied_to_an_admin(
    channel: grpc.Channel,
    tokens: dict[tuple[Scope, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = "/thingsvision.v1.ModelService/GetResidency"
    monkeypatch.delitem(METHOD_SCOPES, method)  # type: ignore[arg-type]
    code, said = outcome(channel, method, tokens[Scope.ADMIN, "right"])
    assert (code, said) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "this server lets nobody call GetResidency",
    )


def test_nothing_is_read_of_a_call_that_is_not_let_in(channel: grpc.Channel) -> None:
    """A stranger's messages would fill the memory, or keep the processor busy."""
    sent = []

    def messages() -> Iterator[bytes]:
        for _ in range(200):
            sent.append(1)
            yield bytes(1024 * 1024)

    call = channel.stream_unary("/thingsvision.v1.ModelService/DeleteUpload")
    with pytest.raises(grpc.RpcError) as caught:
        call(messages(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(sent) < 20
