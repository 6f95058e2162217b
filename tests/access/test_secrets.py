"""No token is left anywhere: all files, figures and errors of a run are searched for it."""

from __future__ import annotations

import pickle
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.lab import Lab, bearer, call_outcome
from support.long_extractions import task_of
from support.server_process import ServerProcess, server_process
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client
from thingsvision_client.errors import NoServerError, ThingsvisionError
from thingsvision_client.jobs import extract_to_folder
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens import hide_tokens, new_token

MODEL = "torchvision/squeezenet1_1@random:0"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of these tests, and its clients, write all they write."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def token(lab: Lab) -> str:
    return lab.add_token("ada", Scope.READ, Scope.EXTRACT)


@pytest.fixture(scope="module")
def server(lab: Lab, token: str, run_folder: Path) -> Iterator[ServerProcess]:
    settings = {**lab.server_files, "audit_log": run_folder / "audit.jsonl"}
    with server_process(run_folder, **settings) as running:
        yield running


def use(
    client: Client, photos: list[Path], folder: Path, token: str
) -> Iterator[Callable[[], Any]]:
    """Yield what somebody does, right and wrong: a token is easily pasted into the wrong place."""
    client.extract(MODEL, photos[:2], "features.3").to_json()
    yield lambda: extract_to_folder(client, task_of(folder / "photos"), folder / "job")
    yield lambda: client.load(MODEL)
    yield lambda: client.modules(f"torchvision/{token}")
    yield lambda: client.modules(token)
    yield lambda: client.extract(MODEL, photos[:1], token)
    yield lambda: client.extract(f"own/{token}", photos[:1], "features.3")
    yield lambda: client.models(token)
    yield lambda: client.delete_pca(token)
    yield lambda: Client(client.server, token=f"{token} ")
    yield lambda: Client(client.server, token=f"{token} {token}")
    yield lambda: Client(f"grpcs://{token}@gpu:50051")
    yield lambda: Client(f"grpcs://ada:{token}@gpu:50051")
    yield lambda: Client(f"https://gpu/?token={token}")
    yield lambda: Client(f"{token}:50051").residency()


def test_no_file_of_a_run_has_a_token(
    lab: Lab, server: ServerProcess, token: str, photos: list[Path], run_folder: Path
) -> None:
    wrong, said = new_token()[1], []
    write_tiny_photos(run_folder / "photos", photos, 2)
    with Client(server.address, ca=lab.ca, token=token, timeout=30) as client:
        (run_folder / "client.pickle").write_bytes(pickle.dumps(client))
        for act in use(client, photos, run_folder, token):
            try:
                said.append(repr(act()))
            except ThingsvisionError as error:
                said.append("".join(traceback.format_exception(error)))
    with lab.channel(server.address) as channel:
        odd = (("x-request-id", token), ("x-client-version", token), ("x-model", token))
        for metadata in ((*bearer(token), *odd), bearer(wrong), bearer(token, token), odd):
            method = "/thingsvision.v1.ModelService/GetResidency"
            said.append(str(call_outcome(channel, method, b"", metadata)))
        said.append(str(call_outcome(channel, f"/thingsvision.v1.X/{token}", b"", ())))
    with urllib.request.urlopen(server.metrics_url, timeout=30) as page:
        said.append(page.read().decode())
    assert len(said) > 15
    assert "_***" in server.log, "what was pasted into a wrong place is logged without it"
    assert "refused" in (run_folder / "audit.jsonl").read_text()
    written = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    written |= {Path(path): path.read_bytes() for path in lab.folder.iterdir()}
    assert any(path.suffix == ".json" and b"squeezenet" in text for path, text in written.items())
    for secret in (one.rpartition("_")[2] for one in (token, wrong)):
        assert [path for path, text in written.items() if secret.encode() in text] == []
        assert [text for text in said if secret in text] == []


def test_an_address_with_a_token_is_refused_without_it(token: str) -> None:
    with pytest.raises(NoServerError) as caught:
        Client(f"grpcs://{token}@gpu:50051")
    assert f"'grpcs://tv_{token.split('_')[1]}_***@gpu:50051'" in str(caught.value)


def test_tokens_in_a_text_are_hidden_and_nothing_else(token: str) -> None:
    assert hide_tokens(f'{{"id": "{token}"}}') == f'{{"id": "tv_{token.split("_")[1]}_***"}}'
    for text in ("tv_vit_base", "tv_a_b", "token 4fQ2 of ada", "torchvision/vit_b_16"):
        assert hide_tokens(text) == text


def test_nobody_gets_in_by_plain_text(server: ServerProcess, token: str) -> None:
    """A server by TLS has no other way in: what listens there does not answer plain text."""
    with grpc.insecure_channel(server.address) as plain:
        code, _ = call_outcome(
            plain, "/thingsvision.v1.ModelService/GetResidency", b"", bearer(token)
        )
    assert code is grpc.StatusCode.UNAVAILABLE
