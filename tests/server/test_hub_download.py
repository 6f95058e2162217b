"""Checkpoints are fetched if that is allowed, from a hub with huggingface_hub's HTTP API."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.tiny_checkpoints import direct, save
from thingsvision_server.backends.torch.model import state_sha256

REPOSITORY, COMMIT = "org/resnet", "1" * 40

USE = """
import json, sys
from pathlib import Path
from support.serving import open_sources
from thingsvision_server.errors import ThingsvisionError
from thingsvision_server.sources.base import ModelKey, Pretrained

source = open_sources(Path(sys.argv[1]), allow_download=True)["transformers"]
told = []
state = lambda: told.append([e.pretrained[0].state.value for e in source.entries(source.names())])
state()
key = source.resolve(ModelKey("transformers", "org/resnet", Pretrained()))
state()
told.append(source.load(key, "cpu").model_sha256)
state()
try:
    source.resolve(ModelKey("transformers", "org/none", Pretrained()))
except ThingsvisionError as error:
    told.append(str(error))
print(json.dumps(told))
"""


def answer(folder: Path, path: str) -> tuple[dict[str, str], bytes] | None:
    """Return headers and body of the hub's answer; None for what it does not have."""
    files = sorted(folder.iterdir())
    if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
        tree = [
            {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": COMMIT} for f in files
        ]
        return {}, json.dumps(tree).encode()
    if path.startswith(f"/api/models/{REPOSITORY}"):
        siblings = [{"rfilename": file.name} for file in files]
        return {}, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()
    asked = folder / Path(path).name
    if path.startswith(f"/{REPOSITORY}/resolve/") and asked.is_file():
        body = asked.read_bytes()
        etag = hashlib.sha256(body).hexdigest()
        return {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body
    return None


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A hub with one repository: its address, that folder, and what was asked of it."""
    folder, asked = tmp_path / "published", list[str]()
    save("resnet", folder)

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            found = answer(folder, path)
            headers, body = found or ({"X-Error-Code": "RepoNotFound"}, b"{}")
            self.send_response(200 if found else 404)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()


EXTRACT = """
import sys
from pathlib import Path
from support.serving import serving
from thingsvision_client import Client
from thingsvision_client.errors import NotExtractableError

with serving(Path(sys.argv[1]), allow_download=True) as server, Client(server.address) as client:
    listed = {module.name: module for module in client.modules("transformers/org/resnet")}
    assert listed["pooler"].extractable
    try:
        client.extract("transformers/org/resnet", [sys.argv[2]], "pooler.activation")
    except NotExtractableError as error:
        print(error)
"""


def test_modules_without_weights_are_barred_in_the_request_that_fetches_them(
    hub: tuple[str, Path, list[str]], tmp_path: Path, photos: list[Path]
) -> None:
    address, folder, _ = hub
    shutil.rmtree(folder)
    save("tiny-vit", folder)
    said = in_process(EXTRACT, address, tmp_path, str(photos[0]))
    assert "no weights for it" in said
    assert "pooler.dense.bias" in said


def in_process(script: str, address: str, tmp_path: Path, *arguments: str) -> str:
    """Return what a script prints whose hub is at that address."""
    own = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_CACHE": str(tmp_path / "no")}
    own["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "weights"), *arguments],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_checkpoint_is_described_first_and_its_weights_fetched_when_it_loads(
    hub: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, asked = hub
    told = json.loads(in_process(USE, address, tmp_path))
    before, described, digest, loaded, refusal = told
    assert (before, described, loaded) == ([], ["downloadable"], ["present"])
    assert digest == state_sha256(direct(folder))
    assert "'org/none'" in refusal
    assert "it could not be fetched (404" in refusal
    fetched = [Path(line).name for line in asked if line.startswith(f"GET /{REPOSITORY}/resolve")]
    assert sorted(fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert fetched[-1] == "model.safetensors"
