"""People and gateways who show certificates: by mutual TLS, and what gateways say of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.lab import FUTURE, PAST, Lab, bearer, call_outcome, found_lab
from support.serving import serving
from thingsvision_client import Client
from thingsvision_client.errors import PermissionDeniedError, UnavailableError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc
from thingsvision_server.access.forwarded import find_client_address, find_client_subject
from thingsvision_server.access.register import CertificateGrant, Gateway, Register
from thingsvision_server.access.scopes import METHOD_SCOPES, Scope
from thingsvision_server.access.tokens_file import change_register

UNKNOWN, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return found_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def people(home: Lab) -> dict[str, tuple[Path, Path]]:
    """A certificate for each person, all in the file but eve."""
    made = {one: home.issue_person(one) for one in (*PEOPLE, "eve", "gate")}
    rows = tuple(
        CertificateGrant(name=name, subject=subject_of(home, name), **grant)
        for name, grant in PEOPLE.items()
    )
    with change_register(home.tokens) as content:
        gateways = (Gateway(subject=subject_of(home, "gate")),)
        content[0] = Register(certificates=rows, gateways=gateways)
    return made


PEOPLE: dict[str, dict[str, Any]] = {
    **{scope.value: {"scopes": (scope,), "expires": FUTURE} for scope in Scope},
    "late": {"scopes": (Scope.ADMIN,), "expires": PAST},
    "gone": {"scopes": (Scope.ADMIN,), "revoked": PAST},
}


def subject_of(lab: Lab, name: str) -> str:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate((lab.folder / f"{name}.pem").read_bytes())
    return certificate.subject.rfc4514_string()


@pytest.fixture(scope="module")
def address(
    home: Lab, people: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The port where certificates are asked for, beside the ordinary port."""
    settings = {**home.server_files, "client_ca": home.ca, "mtls_port": 0}
    with serving(tmp_path_factory.mktemp("weights"), **settings) as server:
        yield server.running.addresses[1]


def channel(lab: Lab, address: str, name: str | None) -> grpc.Channel:
    files = (lab.folder / f"{name}.key", lab.folder / f"{name}.pem") if name else ()
    shown = [file.read_bytes() for file in files]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(lab.ca.read_bytes(), *shown))


def outcome(
    lab: Lab, address: str, name: str, method: str = "", *metadata: tuple[str, str]
) -> tuple[grpc.StatusCode, str]:
    wanted = method or "/thingsvision.v1.ModelService/GetResidency"
    with channel(lab, address, name) as connected:
        return call_outcome(connected, wanted, b"", metadata)


@pytest.mark.parametrize("method", sorted(METHOD_SCOPES))
def test_a_certificate_may_what_its_row_says(method: str, home: Lab, address: str) -> None:
    if method.endswith("/ListModels"):
        return  # an empty request lists all models, which takes long
    for scope in Scope:
        code, said = outcome(home, address, scope.value, method)
        if scope in (METHOD_SCOPES[method], Scope.ADMIN):
            assert code not in (UNKNOWN, DENIED), said
        else:
            assert code is DENIED
            assert f"certificate CN={scope.value}," in said
    for name, why in {"late": "expired on", "gone": "revoked on", "eve": "no certificate"}.items():
        code, said = outcome(home, address, name, method)
        assert code is UNKNOWN
        assert why in said
        assert f"CN={name}," in said


def test_clients_of_python_show_their_certificate(
    home: Lab, address: str, people: dict[str, tuple[Path, Path]]
) -> None:
    cert, key = people["read"]
    with Client(address, ca=home.ca, cert=cert, key=key) as client:
        client.residency()
        with pytest.raises(PermissionDeniedError, match="LoadModel needs the scope `control`"):
            client.load("torchvision/alexnet@random:0")
    elsewhere = home.folder / "elsewhere"
    elsewhere.mkdir()
    stranger = found_lab(elsewhere).issue_person("read")
    for shown in ({}, {"cert": stranger[0], "key": stranger[1]}):
        client, hint = Client(address, ca=home.ca, **shown), "if it asks for the certificate of its"
        with client, pytest.raises(UnavailableError, match=hint):
            client.residency()


def test_a_token_counts_more_than_the_certificate(home: Lab, address: str) -> None:
    wrong = bearer("tv_a_b")
    assert outcome(home, address, "admin", "", *wrong)[0] is UNKNOWN


XFCC, XFF = "x-forwarded-client-cert", "x-forwarded-for"


def said_of(lab: Lab, name: str) -> tuple[str, str]:
    return XFCC, f'By=spiffe://gate;Hash=0a;Subject="{subject_of(lab, name)}";URI='


def test_a_gateway_says_who_calls_and_is_nobody_itself(home: Lab, address: str) -> None:
    assert outcome(home, address, "gate")[0] is UNKNOWN
    assert outcome(home, address, "gate", "", said_of(home, "read"))[0] is grpc.StatusCode.OK
    code, said = outcome(home, address, "gate", "", said_of(home, "upload"))
    assert code is DENIED
    assert "of upload has upload" in said
    for name in ("late", "gone", "eve", "gate"):
        assert outcome(home, address, "gate", "", said_of(home, name))[0] is UNKNOWN
    # The nearest gateway's word counts, which is the last.
    further, near = said_of(home, "admin")[1], said_of(home, "eve")[1]
    assert outcome(home, address, "gate", "", (XFCC, f"{further},{near}"))[0] is UNKNOWN
    assert outcome(home, address, "gate", "", (XFCC, further), (XFCC, near))[0] is UNKNOWN


def test_what_a_stranger_says_of_others_is_ignored(home: Lab, address: str) -> None:
    """Also from the gateway's machine: it is known by its certificate, not by its address."""
    forged = (said_of(home, "admin"), (XFF, "10.0.0.1"))
    assert outcome(home, address, "eve", "", *forged)[0] is UNKNOWN
    code, said = outcome(home, address, "upload", "", *forged)
    assert code is DENIED
    assert "of upload has upload" in said


def test_a_private_socket_is_a_gateway_too(home: Lab, tmp_path: Path) -> None:
    settings = {"tokens": home.tokens, "unix_gateway": True}
    path = tmp_path / "run" / "tv.sock"
    token = home.add_token("ada", Scope.READ)
    with serving(tmp_path / "weights", unix=path, **settings) as server:
        tcp, gate = server.running.addresses
        assert residency(gate, *bearer(token)) is grpc.StatusCode.OK
        assert residency(gate) is UNKNOWN
        assert residency(gate, said_of(home, "read")) is grpc.StatusCode.OK
        assert residency(tcp, said_of(home, "read")) is UNKNOWN


def residency(address: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    with grpc.insecure_channel(address) as plain:
        stub: Any = pb_grpc.ModelServiceStub(plain)
        try:
            stub.GetResidency(pb.GetResidencyRequest(), metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined, no-any-return]
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("values", "subject"),
    [
        (['Hash=1;Subject="CN=ada,O=lab"'], "CN=ada,O=lab"),
        (["Subject=CN=ada"], "CN=ada"),
        (['By=x;Subject="CN=\\"a\\""'], 'CN="a"'),
        (['Subject="CN=ada",By=y;Hash=2'], ""),
        (['Subject="CN=ada"', 'Subject="CN=bob"'], "CN=bob"),
        (['Subject="CN=admin,By=y;Subject="CN=eve"'], ""),  # a quotation mark left open
        (['Subject="CN=admin";X=",By=y;Subject="CN=eve"'], ""),
        (["nonsense"], ""),
        ([";;"], ""),
        ([], ""),
    ],
)
def test_the_subject_of_the_last_gateway_is_read_or_none(values: list[str], subject: str) -> None:
    assert find_client_subject(values) == subject


def test_the_address_of_the_last_hop_is_read() -> None:
    assert find_client_address(["1.2.3.4, 10.0.0.7"]) == "10.0.0.7"
    assert find_client_address(["1.2.3.4", "10.0.0.8"]) == "10.0.0.8"
    assert find_client_address([]) == ""
