"""Where the server listens, and that it does not where nobody would be asked who they are."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.checkout import CHECKOUT
from support.lab import Lab
from support.server_process import free_port
from support.serving import serving
from thingsvision_client import Client
from thingsvision_client.errors import UnauthenticatedError
from thingsvision_server.access.scopes import Scope
from thingsvision_server.settings import Settings
from thingsvision_server.settings.listeners import find_listening_mistakes

# A server that does not start ends its thread with the error, which the test gets as well.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def mistakes(**settings: Any) -> list[str]:
    return list(find_listening_mistakes(Settings(**settings)))


def test_other_machines_are_let_in_by_tls_and_tokens_or_knowingly(tmp_path: Path) -> None:
    tls = {"tls_cert": tmp_path / "a.pem", "tls_key": tmp_path / "a.key"}
    tokens = {"tokens": tmp_path / "tokens.json"}
    for host in ("0.0.0.0", "::", "[::]", "gpu", "192.168.0.7", "127.0.0.1.example.org"):
        (sentence,) = mistakes(host=host)
        assert "so --tls-cert and --tokens must be given; or --insecure" in sentence
        assert "so --tls-cert must be given" in mistakes(host=host, **tokens)[0]
        assert "so --tokens must be given" in mistakes(host=host, **tls)[0]
        assert not mistakes(host=host, **tls, **tokens)
        assert not mistakes(host=host, insecure=True)
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.10"):
        assert not mistakes(host=host)


def test_a_server_that_would_let_anybody_in_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught, serving(tmp_path, host="0.0.0.0"):
        pass
    assert "lets other machines in" in str(caught.value.__cause__)


def test_files_that_belong_together_are_asked_for(tmp_path: Path) -> None:
    assert mistakes(tls_cert=tmp_path) == ["--tls-cert and --tls-key must be given together"]
    assert mistakes(client_ca=tmp_path) == ["--mtls-port and --client-ca must be given together"]
    (sentence,) = mistakes(client_ca=tmp_path, mtls_port=0)
    assert sentence == "--mtls-port needs --tls-cert and --tls-key"
    assert "--unix-gateway needs --unix and --tokens" in mistakes(unix_gateway=True)[0]


def test_a_port_is_opened_only_if_it_is_the_only_way_or_named(tmp_path: Path) -> None:
    tls = {"tls_cert": tmp_path, "tls_key": tmp_path, "client_ca": tmp_path, "mtls_port": 1}
    assert Settings().tcp
    assert not Settings(unix=tmp_path / "s").tcp
    assert not Settings(**tls).tcp
    assert not mistakes(host="0.0.0.0", **tls)
    assert "so --tokens must" in mistakes(host="0.0.0.0", port=50051, **tls)[0]


@pytest.mark.parametrize(
    ("mode", "alone", "with_tokens"),
    [
        (0o700, "", ""),
        (0o750, "chmod 700", ""),
        (0o755, "chmod 700", ""),
        (0o770, "chmod 700", "must not be writable by others"),
        (0o1777, "chmod 700", "must not be writable by others"),
    ],
)
def test_the_folder_of_a_socket_says_who_may_come(
    mode: int, alone: str, with_tokens: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    for expected, settings in ((alone, {}), (with_tokens, {"tokens": tmp_path / "t"})):
        found = mistakes(unix=folder / "tv.sock", **settings)
        assert bool(found) is bool(expected)
        assert expected in "".join(found)
        assert f"got {mode:04o}" in "".join(found) or not expected
    assert not mistakes(unix=folder / "tv.sock", insecure=True)


def test_a_missing_folder_is_made_for_one_person(tmp_path: Path) -> None:
    assert not mistakes(unix=tmp_path / "new" / "tv.sock")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert "can be made" in mistakes(unix=tmp_path / "a" / "b" / "tv.sock")[0]
    assert "at most 107 bytes" in mistakes(unix=tmp_path / ("x" * 120))[0]


def test_a_socket_serves_and_is_removed(tmp_path: Path, photos: list[Path]) -> None:
    path = tmp_path / "run" / "tv.sock"
    with serving(tmp_path / "weights", unix=path) as server:
        *_, address = server.running.addresses
        assert address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        with Client(address) as client:
            found = client.extract("torchvision/squeezenet1_1@random:0", photos[:1], "features.0")
        assert len(found.features["features.0"]) == 1
        with pytest.raises(RuntimeError) as caught, serving(tmp_path / "weights", unix=path):
            pass
        assert str(caught.value.__cause__).endswith("another server does")
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "tv.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.is_socket()
    with serving(tmp_path / "weights", unix=path) as server:
        Client(server.running.addresses[-1]).residency()
    path.write_text("mine")
    with pytest.raises(RuntimeError) as caught, serving(tmp_path / "weights", unix=path):
        pass
    assert str(caught.value.__cause__).endswith("another file has that name")
    assert path.read_text() == "mine"


def test_a_socket_with_tokens_asks_for_them_without_tls(tmp_path: Path, lab: Lab) -> None:
    token = lab.add_token("ada", Scope.READ)
    path = tmp_path / "run" / "tv.sock"
    with serving(tmp_path / "weights", unix=path, tokens=lab.tokens) as server:
        address = server.running.addresses[-1]
        assert path.stat().st_mode & 0o777 == 0o660
        with Client(address, token=token) as client:
            client.residency()
        with Client(address) as client, pytest.raises(UnauthenticatedError):
            client.residency()


def page(url: str, lab: Lab, *tokens: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
    context = ssl.create_default_context(cafile=str(lab.ca)) if "https" in url else None
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_that_other_machines_reach_ask_for_a_token(tmp_path: Path, lab: Lab) -> None:
    reader, other = lab.add_token("prometheus", Scope.READ), lab.add_token("bob", Scope.UPLOAD)
    port = free_port()
    settings = {"metrics_host": "0.0.0.0", "metrics_port": port, **lab.server_files}
    with serving(tmp_path / "weights", **settings) as server:
        url = f"https://localhost:{port}/metrics"
        # Somebody who connects and says nothing delays nobody.
        with socket.create_connection(("localhost", port)):
            assert page(url, lab, reader)[0] == 200
        assert "thingsvision_queue_depth" in page(url, lab, reader)[1]
        for shown, code, why in (
            ((), 401, "must be `Bearer` and a token"),
            (("tv_a_b",), 401, "not one of this server's tokens"),
            ((other,), 403, "needs the scope `read`"),
        ):
            found, said = page(url, lab, *shown)
            assert (found, why in said) == (code, True)
        lab.issue_server()
        server.running.access.look()
        assert page(url, lab, reader)[0] == 200


def test_metrics_of_this_machine_alone_ask_for_nothing(tmp_path: Path, lab: Lab) -> None:
    port = free_port()
    with serving(tmp_path / "weights", metrics_port=port, **lab.server_files):
        assert page(f"http://127.0.0.1:{port}/metrics", lab)[0] == 200


def test_the_health_check_of_the_container_finds_every_kind_of_server(
    tmp_path: Path, lab: Lab
) -> None:
    path = tmp_path / "run" / "tv.sock"
    lab.issue_server("gpu.example.org")  # the container need not have its own name in it
    with serving(tmp_path / "weights", unix=path, **lab.server_files) as server:
        port = server.address.rpartition(":")[2]
        cert = str(lab.server_files["tls_cert"])
        good = {"THINGSVISION_PORT": port, "THINGSVISION_TLS_CERT": cert}
        for variables in (good, {"THINGSVISION_UNIX": str(path), "THINGSVISION_TLS_CERT": cert}):
            assert checked(variables) == (0, "")
        assert checked({"THINGSVISION_PORT": port})[0] == 1
    with serving(tmp_path / "weights", **lab.server_files, client_ca=lab.ca, mtls_port=0) as server:
        key = {"THINGSVISION_TLS_KEY": str(lab.server_files["tls_key"])}
        port = server.running.addresses[1].rpartition(":")[2]
        mutual = {"THINGSVISION_MTLS_PORT": port, "THINGSVISION_TLS_CERT": cert}
        assert checked(mutual | key) == (0, "")
        assert checked(mutual)[0] == 1
    lab.issue_server()
    code, said = checked(good)
    assert code == 1
    assert "does not answer" in said


def checked(variables: dict[str, str]) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if "THINGSVISION" not in name}
    done = subprocess.run(
        [sys.executable, CHECKOUT / "deploy" / "healthcheck.py"],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, "\n".join(x for x in done.stderr.splitlines() if x[:1] != "I")
