"""A client certificate that expires, or whose row goes, ends its calls; keys must be private."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.lab import Lab, found_lab
from support.serving import TestServer, serving
from thingsvision_server.access.certificate_dates import end_of_certificate
from thingsvision_server.access.key_file import find_key_fault
from thingsvision_server.access.register import CertificateGrant, Register
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens_file import change_register
from thingsvision_server.errors import PreconditionError
from thingsvision_server.settings import Settings
from thingsvision_server.start.access_files import find_file_mistakes
from thingsvision_server.start.doctor import _certificates

END_SECONDS = 10
LIFE_SECONDS = 3

# A server that does not start ends its thread with the error, which the test gets as well.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return found_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def mutual(home: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    settings = {**home.server_files, "client_ca": home.ca, "mtls_port": 0}
    with serving(tmp_path_factory.mktemp("weights"), **settings) as server:
        yield server


def let_in(lab: Lab, *names: str) -> None:
    """Have the tokens file name these people's certificates, and no others."""
    rows = []
    for name in names:
        found = x509.load_pem_x509_certificate((lab.folder / f"{name}.pem").read_bytes())
        subject = found.subject.rfc4514_string()
        rows.append(CertificateGrant(name=name, subject=subject, scopes=(Scope.READ,)))
    with change_register(lab.tokens) as content:
        content[0] = Register(certificates=tuple(rows))


def watch(lab: Lab, server: TestServer, name: str) -> Any:
    """Start a call that lasts until it is ended, and read its first reply."""
    files = [lab.ca, lab.folder / f"{name}.key", lab.folder / f"{name}.pem"]
    shown = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    channel = grpc.secure_channel(server.running.addresses[1], shown)
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(call).status == health_pb2.HealthCheckResponse.SERVING
    return call


def test_calls_end_with_their_certificate_or_its_row(home: Lab, mutual: TestServer) -> None:
    ends = datetime.now(timezone.utc) + timedelta(seconds=LIFE_SECONDS)
    home.issue_person("short", not_after=ends)
    for name in ("removed", "stays"):
        home.issue_person(name)
    let_in(home, "short", "removed", "stays")
    mutual.running.access.look()
    calls = {name: watch(home, mutual, name) for name in ("short", "removed", "stays")}
    let_in(home, "short", "stays")
    reasons = {"removed": "has no certificate with the subject 'CN=removed", "short": "expired on"}
    began = time.monotonic()
    for name, reason in reasons.items():
        with pytest.raises(grpc.RpcError):
            next(calls[name])
        assert calls[name].code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason in calls[name].details()
        assert time.monotonic() - began < LIFE_SECONDS + END_SECONDS
    assert calls["stays"].is_active()
    calls["stays"].cancel()


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 9999])
def test_the_end_of_a_certificate_is_read(year: int) -> None:
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    early = datetime(1990, 1, 1, tzinfo=timezone.utc)
    issued = trustme.CA().issue_cert("ada@lab.example", not_before=early, not_after=end)
    pem = issued.cert_chain_pems[0].bytes()
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc == end
    assert end_of_certificate(pem) == end


def test_what_is_not_a_certificate_has_no_end() -> None:
    pem = trustme.CA().issue_cert("ada@lab.example").cert_chain_pems[0].bytes()
    lines = pem.splitlines(keepends=True)
    for broken in (b"", b"no", lines[0] + lines[-1], lines[0] + b"".join(lines[3:])):
        with pytest.raises(ValueError, match="the end of the certificate can't be read"):
            end_of_certificate(broken)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o610, 0o777])
def test_a_key_that_others_may_read_is_refused(mode: int, home: Lab, tmp_path: Path) -> None:
    lab = found_lab(tmp_path)
    key = lab.server_files["tls_key"]
    key.chmod(mode)
    why = rf"must be readable by the server alone \(0600, or 0640 for its group\), got {mode:04o}"
    (mistake,) = find_file_mistakes(Settings(**lab.server_files))
    assert mistake.startswith("--tls-key ")
    with pytest.raises(RuntimeError) as caught, serving(tmp_path / "w", **lab.server_files):
        pass
    cause = caught.value.__cause__
    assert isinstance(cause, PreconditionError)
    for said in (mistake, str(cause)):
        assert re.search(f"{key} {why}", said)
        assert said.endswith("chmod 600 it")


def test_a_key_of_the_servers_group_or_by_a_link_is_taken(home: Lab, tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    key.write_text("a key")
    link = tmp_path / "live.key"
    link.symlink_to(key)
    for mode in (0o600, 0o400, 0o640, 0o440):
        key.chmod(mode)
        assert find_key_fault(key) == find_key_fault(link) == ""
    key.chmod(0o644)
    assert find_key_fault(link)


def test_a_key_that_is_opened_while_the_server_runs_alarms(home: Lab, mutual: TestServer) -> None:
    registry = mutual.running.metrics.registry
    name, labels = "thingsvision_access_file_broken", {"kind": "certificates"}
    for mode, broken in ((0o644, 1), (0o600, 0)):
        home.server_files["tls_key"].chmod(mode)
        mutual.running.access.look()
        assert registry.get_sample_value(name, labels) == broken


def test_doctor_tells_the_days_that_certificates_have_left(tmp_path: Path) -> None:
    lab, now = found_lab(tmp_path), datetime.now(timezone.utc)
    for days, said in (
        (200, "ok: {} is valid for 199 more days"),
        (5, "note: {} is valid for 4 more days"),
        (-1, "FAILED: {} expired"),
    ):
        lab.issue_server(expires=now + timedelta(days=days))
        (found,) = _certificates(Settings(**lab.server_files))
        assert f"{found.state}: {found.text}" == said.format(lab.server_files["tls_cert"])
    (found,) = _certificates(Settings(client_ca=lab.ca, mtls_port=0))
    assert found.state == "ok"
    lab.ca.write_text("nothing")
    (found,) = _certificates(Settings(client_ca=lab.ca, mtls_port=0))
    assert "the end of the certificate can't be read" in found.text
