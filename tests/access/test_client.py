"""What a client shows, to whom it shows it, and what it says when it is not let in."""

from __future__ import annotations

import copy
import json
import pickle
import re
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.lab import FUTURE, PAST, Lab, found_lab
from support.serving import TestServer, serving
from thingsvision_client import Client, connect, get_extractor
from thingsvision_client.cli import app
from thingsvision_client.client import shared_client
from thingsvision_client.errors import (
    CertificateError,
    InvalidRequestError,
    NoServerError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from thingsvision_client.rpc.credentials import Credentials
from thingsvision_client.rpc.proxies import Route, find_route
from thingsvision_client.rpc.tls_files import TLSFiles
from thingsvision_server.access.scopes import Scope

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "classifier.3"


@pytest.fixture(scope="module")
def token(lab: Lab, lab_server: TestServer) -> str:
    found = lab.add_token("ada", Scope.READ, Scope.EXTRACT, expires=FUTURE)
    lab_server.running.access.look()
    return found


@pytest.fixture(scope="module")
def url(lab_server: TestServer) -> str:
    return f"grpcs://{lab_server.address}"


@pytest.fixture
def token_file(tmp_path: Path, token: str) -> Path:
    path = tmp_path / "my-token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


def test_a_token_and_an_authority_let_a_client_extract(
    lab: Lab, lab_server: TestServer, token: str, photos: list[Path]
) -> None:
    """A file of TLS makes the address that of a server that encrypts."""
    with Client(lab_server.address, token=token, ca=lab.ca) as client:
        assert client.server == f"grpcs://{lab_server.address}"
        extraction = client.extract(MODEL, photos[:2], MODULE)
        assert extraction.features[MODULE].shape[:2] == (2, 1000)
        assert token not in repr(client) + str(vars(client)) + extraction.to_json()
        with pytest.raises(PermissionDeniedError) as caught:
            client.load(MODEL)
    assert isinstance(caught.value, PermissionError)
    assert re.fullmatch(
        r"LoadModel needs the scope `control`, and the token \w{8} of ada has extract, read: "
        r"Ada of the lab gives scopes \(thingsvision-server token new --scopes control,\.\.\.\)",
        str(caught.value),
    )


def test_a_token_is_found_in_the_environment_and_in_files(
    lab: Lab, url: str, token: str, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_CA", str(lab.ca))
    with Client(url) as client:
        with pytest.raises(UnauthenticatedError, match="the call has none: set THINGSVISION_TOKEN"):
            client.residency()
        monkeypatch.setenv("THINGSVISION_TOKEN", token)
        client.residency()
        monkeypatch.setenv("THINGSVISION_TOKEN", "")
        monkeypatch.setenv("THINGSVISION_TOKEN_FILE", str(token_file))
        client.residency()
        monkeypatch.setenv("THINGSVISION_TOKEN_FILE", "")
        own = Path("~/.config/thingsvision/token").expanduser()
        own.parent.mkdir(parents=True)
        token_file.rename(own)
        client.residency()
        own.chmod(0o640)
        with pytest.raises(UnauthenticatedError, match=r"by you alone, got mode 0640: run chmod"):
            client.residency()


def test_functions_of_the_library_use_the_token_of_connect(
    lab: Lab, url: str, token: str, photos: list[Path]
) -> None:
    connect(url, token=token, ca=lab.ca)
    extractor = get_extractor("squeezenet1_1", pretrained=False, device="cpu", source="torchvision")
    assert extractor.model.name.startswith("squeezenet")
    with Client() as client:  # the same server, and so the same token
        assert client.extract(MODEL, photos[:1], MODULE).features[MODULE].shape[:2] == (1, 1000)
    with Client(url, timeout=60) as client:
        client.residency()


def test_the_command_line_takes_files_before_and_behind_a_command(
    lab: Lab, url: str, token_file: Path
) -> None:
    files = ["--ca", str(lab.ca), "--token-file", str(token_file)]
    address = url.removeprefix("grpcs://")
    for arguments in (["--server", url, *files, "status"], ["status", *files, "--server", address]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{done.output} {done.exception}"
    done = CliRunner().invoke(app, ["status", "--ca"])
    assert str(done.exception) == "--ca needs the name of a file."
    done = CliRunner().invoke(app, ["--token", "tv_a_b", "status"])
    assert done.exit_code == 2  # a token is never an argument


@pytest.mark.parametrize("wrong", ["tv_x_y", "tv_" + "a" * 8 + "_" + "b" * 43])
def test_a_wrong_token_is_told_in_a_sentence_that_does_not_show_it(
    wrong: str, lab: Lab, url: str
) -> None:
    with (
        Client(url, token=wrong, ca=lab.ca) as client,
        pytest.raises(UnauthenticatedError) as caught,
    ):
        client.models("torchvision")
    assert str(caught.value) == (
        "the call's token is not one of this server's tokens; Ada of the lab gives tokens"
    )
    assert wrong not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "given", ["", "two words", "tv_\n_x", "schl\N{LATIN SMALL LETTER U}\u0308"]
)
def test_what_can_not_be_a_token_is_refused_and_not_shown(given: str, url: str) -> None:
    with pytest.raises(InvalidRequestError, match="`token` must be one line") as caught:
        Client(url, token=given)
    assert not given or given not in str(caught.value)
    with pytest.raises(InvalidRequestError, match=r"`token` must be .* got a bytes") as caught:
        Client(url, token=b"tv_secret_bytes")  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_a_pickle_has_no_token_and_a_copy_has(lab: Lab, url: str, token: str) -> None:
    client = Client(url, token=token, ca=lab.ca)
    for copied in (copy.copy(client), copy.deepcopy(client)):
        copied.residency()
    pickled = pickle.dumps(client)
    assert token.encode() not in pickled
    for round_trip in (pickled, pickle.dumps(pickle.loads(pickled))):
        with pytest.raises(UnauthenticatedError, match="which a pickle leaves out: set THINGSV"):
            pickle.loads(round_trip).residency()


def test_a_pickle_finds_a_token_of_the_environment_again(
    lab: Lab, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_TOKEN", token)
    client = pickle.loads(pickle.dumps(Client(url, ca=lab.ca)))
    client.residency()


def test_a_token_is_not_sent_where_others_could_read_it(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = find_route("gpu:50051", proxy=True), find_route("localhost:50051", proxy=True)
    proxied = Route("gpu:50051", "http_proxy", "http://user:secret@proxy:3128")
    given = Credentials(token)
    assert given.metadata(there) == given.metadata(proxied) == ()
    assert given.metadata(here) == (("authorization", f"Bearer {token}"),)
    # That name server says what its localhost is.
    assert given.metadata(Route("dns://10.0.0.2/localhost:1")) == ()
    assert given.metadata(Route("unix:/run/thingsvision.sock"))
    assert given.metadata(Route("grpcs://gpu:1", "http_proxy", "http://proxy:3128"))
    told = Credentials(token, plain_token=True)
    assert told.metadata(there)
    assert told.metadata(proxied) == ()
    with pytest.raises(InvalidRequestError, match="not sent to gpu:50051 without encryption") as no:
        Client("gpu:50051", token=token)
    assert token not in str(no.value)
    Client("gpu:50051", token=token, plain_token=True).close()
    monkeypatch.setenv("THINGSVISION_TOKEN", token)
    Client("gpu:50051").close()  # another server, which needs no token
    assert "server='grpcs://...'" in Credentials().advice(there)
    assert "through the proxy http://proxy:3128" in Credentials().advice(proxied)


def test_a_certificate_that_is_not_trusted_is_told_in_a_sentence(
    lab_server: TestServer, url: str, token: str, tmp_path: Path
) -> None:
    other = found_lab(tmp_path)
    for client in (Client(url, token=token), Client(url, token=token, ca=other.ca)):
        with (
            client,
            pytest.raises(CertificateError, match="of an authority that this client") as no,
        ):
            client.models("torchvision")
        assert "ca='ca.pem', or set THINGSVISION_CA" in str(no.value)
    assert lab_server.address in str(no.value)


def test_certificates_of_other_hosts_and_other_times_are_told(tmp_path: Path) -> None:
    lab = found_lab(tmp_path)
    lab.issue_server("elsewhere.example.org")
    with serving(tmp_path / "weights", **lab.server_files) as server:
        refused(server.address, lab.ca, "is valid, but not for this host")
        lab.issue_server(expires=datetime.now(timezone.utc) - timedelta(days=1))
        server.running.access.look()
        refused(server.address, lab.ca, r"is not valid now \(certificate has expired\)")


def refused(address: str, ca: Path, why: str) -> None:
    with Client(address, ca=ca) as client, pytest.raises(CertificateError, match=why):
        client.residency()


def test_encryption_on_one_side_alone_is_told(
    lab: Lab, lab_server: TestServer, server: TestServer
) -> None:
    refused(server.address, lab.ca, f"does not encrypt: write {server.address}, without")
    address = lab_server.address
    hint = re.escape(f"{address} closed the connection (Socket closed): if it encrypts, write gr")
    with Client(address) as client, pytest.raises(UnavailableError, match=hint):
        client.residency()


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{0}\n", ""),
        ("  {0}\r\n", ""),
        ("\ufeff{0}\n", ""),  # an editor of Windows
        ("{0}\n{0}\n", "got 2 lines"),
        ("\n", "got an empty text"),
        ("'{0}'", "got quotation marks around it"),
        ("Bearer {0}", "got the word Bearer before it"),
        ("token: {0}", "characters that are not a token"),
    ],
)
def test_a_token_file_has_one_line(
    text: str, got: str, lab: Lab, url: str, token: str, token_file: Path, monkeypatch: Any
) -> None:
    token_file.write_text(text.format(token), "utf-8")
    monkeypatch.setenv("THINGSVISION_TOKEN_FILE", str(token_file))
    with Client(url, ca=lab.ca) as client:
        if not got:
            client.residency()
            return
        with pytest.raises(
            InvalidRequestError, match=f"{token_file} must be one line.*{got}"
        ) as no:
            client.residency()
    assert token not in "".join(traceback.format_exception(no.value))


def test_the_dates_of_the_clients_own_certificate_are_told(
    lab: Lab, lab_server: TestServer, url: str, token: str, tmp_path: Path
) -> None:
    """A server closes the connection, and gRPC does not say why."""
    late, early = (
        lab.issue_person(name, **dates)
        for name, dates in {"late": {"not_after": PAST}, "early": {"not_before": FUTURE}}.items()
    )
    settings = {**lab.server_files, "client_ca": lab.ca, "mtls_port": 0}
    with serving(tmp_path / "weights", **settings) as server:
        for (cert, key), why in ((late, "has expired"), (early, "is not yet valid")):
            match = (
                rf"Your certificate {cert} is not valid now \(certificate {why}\), so the server"
            )
            with (
                Client(server.running.addresses[1], ca=lab.ca, cert=cert, key=key) as client,
                pytest.raises(CertificateError, match=match),
            ):
                client.residency()
    # Where none is asked for, it does not matter.
    cert, key = late
    with Client(url, token=token, ca=lab.ca, cert=cert, key=key) as client:
        client.residency()


def test_files_of_tls_that_can_not_be_used_are_refused(
    lab: Lab, lab_server: TestServer, tmp_path: Path
) -> None:
    address = lab_server.address
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    for ca in (broken, tmp_path / "missing.pem"):
        with pytest.raises(InvalidRequestError, match=f"`ca` must be a PEM file.*{ca.name}"):
            Client(address, ca=ca)
    cert, _ = lab.issue_person("bob")
    with pytest.raises(InvalidRequestError, match="`cert` and `key` must be given together"):
        Client(address, ca=lab.ca, cert=cert)
    with pytest.raises(InvalidRequestError, match="`cert` must be a PEM file"):
        Client(address, ca=lab.ca, cert=cert, key=lab.ca)
    with pytest.raises(NoServerError, match="A socket on this machine is not encrypted"):
        Client("unix:/run/thingsvision.sock", ca=lab.ca)


def test_one_client_may_differ_from_what_the_process_was_told(
    lab: Lab, url: str, token: str
) -> None:
    connect(url, token=token, ca=lab.ca)
    weaker = Client(url, token="tv_" + "a" * 8 + "_" + "b" * 43)  # with the authority of connect
    with weaker, pytest.raises(UnauthenticatedError):
        weaker.residency()
    shared_client().residency()
    assert TLSFiles() != Credentials(files=TLSFiles(str(lab.ca))).files
    assert json.loads(json.dumps(str(shared_client()))) == str(shared_client())
