import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from thingsvision_client import Client, errors
from thingsvision_client.rpc import address
from thingsvision_client.rpc.status import BY_CODE, BY_REASON, to_error

IMAGE = [("a", b"an image")]


class FailedCall(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """What gRPC raises, made by hand."""

    def __init__(self, code: grpc.StatusCode, text: str, *trailing: tuple[str, str | bytes]):
        self._code, self._text, self._trailing = code, text, trailing

    def code(self):
        return self._code

    def details(self):
        return self._text

    def trailing_metadata(self):
        return self._trailing

    def initial_metadata(self):
        return ()

    def is_active(self):
        return False

    def time_remaining(self):
        return None

    def cancel(self):
        return False

    def add_callback(self, callback):
        return False


def failed(code: grpc.StatusCode, text: str, reason: str, domain: str = "thingsvision"):
    detail = Any()
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"subject": "bad"})
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=text, details=[detail])
    return FailedCall(
        code, text, ("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "r7")
    )


@pytest.mark.parametrize("reason", sorted(BY_REASON))
def test_the_reason_decides(reason: str) -> None:
    error = to_error(failed(grpc.StatusCode.INTERNAL, "why", reason), address="a:1", request_id="x")
    assert type(error) is getattr(errors, reason)
    assert (str(error), error.request_id, error.subject) == ("why", "r7", "bad")


def test_an_unknown_reason_falls_back_to_the_status_code() -> None:
    for call in (
        failed(grpc.StatusCode.NOT_FOUND, "why", "UnknownModelError", domain="elsewhere"),
        failed(grpc.StatusCode.NOT_FOUND, "why", "AddedNextYearError"),
    ):
        error = to_error(call, address="a:1", request_id="x")
        assert type(error) is errors.NotFoundError


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_code_becomes_an_error(code: grpc.StatusCode) -> None:
    call = FailedCall(code, "why", ("x-request-id", "sent"))
    error = to_error(call, address="host:7", request_id="another")
    assert type(error) is BY_CODE.get(code, errors.ServerError)
    assert error.request_id == "sent"


@pytest.mark.parametrize("code", ["CANCELLED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"])
def test_a_failure_without_the_servers_id_comes_from_the_way(code: str) -> None:
    call = FailedCall(grpc.StatusCode[code], "stream closed by RST_STREAM")
    error = to_error(call, address="host:7", request_id="sent")
    assert type(error) is errors.UnavailableError
    assert error.request_id == "sent"


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("CANCELLED", "Locally cancelled by application!", errors.StoppedError),
        ("CANCELLED", "Channel closed!", errors.StoppedError),
        ("CANCELLED", "Stream removed (Channel closed!)", errors.StoppedError),
        ("INTERNAL", "Exception deserializing response!", errors.ServerError),
        ("UNKNOWN", "Exception iterating requests!", errors.ServerError),
        ("UNIMPLEMENTED", "Method not found!", errors.UnsupportedError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineError),
    ],
)
def test_what_this_process_caused_stays_what_it_is(code: str, text: str, kind: type) -> None:
    call = FailedCall(grpc.StatusCode[code], text)
    assert type(to_error(call, address="host:7", request_id="sent")) is kind


def test_a_failure_of_the_server_is_reported_in_its_own_words() -> None:
    call = failed(grpc.StatusCode.INTERNAL, "its log has r7", "InternalError")
    error = to_error(call, address="a:1", request_id="x")
    assert type(error) is errors.ServerError
    assert (str(error), error.request_id) == ("its log has r7", "r7")


def test_details_that_a_proxy_spoiled_are_ignored() -> None:
    call = failed(grpc.StatusCode.NOT_FOUND, "why", "UnknownModelError")
    (key, details), *_ = call.trailing_metadata()
    spoiled = [
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", (key, details[:-3])),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", (key, b"\xff<html>")),
        FailedCall(grpc.StatusCode.NOT_FOUND, "another sentence", (key, details)),
        FailedCall(grpc.StatusCode.UNAVAILABLE, "why", (key, details)),
    ]
    for call in spoiled:
        error = to_error(call, address="a:1", request_id="x")
        assert type(error) is BY_CODE[call.code()]
        assert call.details() in str(error)


def test_no_server_says_how_to_start_one() -> None:
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, "refused")
    message = str(to_error(call, address="host:7", request_id="x"))
    for part in ("host:7", "THINGSVISION_SERVER=host:port", "thingsvision-server"):
        assert part in message


def test_unknown_names_are_value_errors() -> None:
    for kind in (errors.UnknownSourceError, errors.UnknownModelError, errors.UnknownModuleError):
        assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet\N{NON-BREAKING HYPHEN}50", "did you mean 'torchvision/resnet-50'"),
        ("r\N{LATIN SMALL LETTER E WITH ACUTE}snet50", "did you mean 'torchvision/resnet50'"),
        ("resnet50\N{ZERO WIDTH SPACE}", "did you mean 'torchvision/resnet50'"),
        ("\u6a21", r"are ASCII\.$"),
        ("resnet\n50", r"U\+000A.*are ASCII\.$"),
    ],
)
def test_a_name_that_metadata_cannot_hold_is_not_a_failure_of_the_server(
    name: str, hint: str
) -> None:
    with Client("127.0.0.1:1") as client:
        for call in (client.modules, client.load, lambda model: client.extract(model, IMAGE, "a")):
            with pytest.raises(errors.UnknownModelError, match=hint) as error:
                call(f"torchvision/{name}")
            assert error.value.subject == f"torchvision/{name}"
            assert isinstance(error.value, ValueError)


def test_every_error_of_the_server_has_its_namesake() -> None:
    server_errors = pytest.importorskip("thingsvision_server.errors")
    names = {
        name
        for name, value in vars(server_errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert names <= set(BY_REASON)


def test_address_comes_from_argument_then_default_then_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address, "_default_address", "")
    monkeypatch.delenv("THINGSVISION_SERVER", raising=False)
    with pytest.raises(errors.NoServerError, match="THINGSVISION_SERVER=host:port"):
        address.resolve_address()
    monkeypatch.setenv("THINGSVISION_SERVER", "environment:1")
    assert address.resolve_address() == "environment:1"
    address.set_default_address("default:1")
    assert address.resolve_address() == "default:1"
    assert address.resolve_address("argument:1") == "argument:1"
    with pytest.raises(errors.NoServerError, match="'local host'"):
        address.resolve_address("local host")
