"""Networks and weights that both façades and the command line send, shared as they are sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from support.lab import Lab
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.cli import app
from thingsvision_client.errors import InvalidRequestError
from thingsvision_server.access.scopes import Scope

WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD)
GROUP = "of-the-facades"


@pytest.fixture(scope="module")
def url(lab_server: TestServer) -> str:
    return f"grpcs://{lab_server.address}"


@pytest.fixture(scope="module")
def member(lab: Lab, lab_server: TestServer, url: str) -> Iterator[Client]:
    """Somebody of the sender's group."""
    token = lab.add_token("facade-bob", *WORK, group=GROUP)
    lab_server.running.access.look()
    with Client(url, token=token, ca=lab.ca) as one:
        yield one


def write_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(squeezenet1_1().state_dict(), path)
    return path


def test_both_facades_share_what_they_send(
    lab: Lab, lab_server: TestServer, url: str, member: Client, tmp_path: Path
) -> None:
    token = lab.add_token("facade-ada", *WORK, group=GROUP)
    lab_server.running.access.look()
    script = Path(__file__).with_name("sharing_script.py")
    weights = write_weights(tmp_path / "w.safetensors", 11)
    done = subprocess.run(
        [sys.executable, script, url, lab.ca, weights],
        env=os.environ | {"TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    models = said["models"]
    shared = {one.sha256: one.ownership for one in member.uploads()}
    of_others = {name: models[name].rpartition("/")[2] for name in models if name != "weights"}
    of_others["weights"] = models["weights"].rpartition("sha256:")[2]
    assert {name for name, sha256 in of_others.items() if sha256 in shared} == {
        *("shared", "weights", "paper", "grown", "assigned")
    }
    assert len(set(of_others.values())) == 6
    assert shared[of_others["shared"]].owners == ("facade-ada",)
    assert member.modules(models["shared"])
    assert "`share` must be left out without `model_path`" in said["refused"]


def test_the_command_line_shares_the_weights_that_it_sends(
    lab: Lab,
    lab_server: TestServer,
    url: str,
    member: Client,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    token_file = tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text(lab.add_token("facade-cat", *WORK, group=GROUP))
    lab_server.running.access.look()
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / photos[0].name).write_bytes(photos[0].read_bytes())

    def extract(seed: int, *more: str, own_weights: bool = True) -> Any:
        weights = write_weights(tmp_path / f"{seed}.safetensors", seed)
        return CliRunner().invoke(
            app,
            [
                *("extract-features", "--model-name", "torchvision/squeezenet1_1"),
                *("--module-name", "features.3", "--image-root", str(folder)),
                *("--resize", "64", "--crop", "64", "--batch-size", "1"),
                *("--out-path", str(tmp_path / f"out{seed}")),
                *(("--model-path", str(weights)) if own_weights else ("--no-pretrained",)),
                *("--server", url, "--ca", str(lab.ca), "--token-file", str(token_file), *more),
            ],
        )

    before = {one.sha256 for one in member.uploads()}
    for seed, more in ((21, ()), (22, ("--share-weights",))):
        done = extract(seed, *more)
        assert done.exit_code == 0, (done.output, done.exception)
    (shared,) = [one for one in member.uploads() if one.sha256 not in before]
    assert (shared.name, shared.ownership.owners) == ("22.safetensors", ("facade-cat",))
    refused = extract(23, "--share-weights", own_weights=False).exception
    assert isinstance(refused, InvalidRequestError)
    from thingsvision_client.commands.sentences import in_shell

    assert in_shell(str(refused)).startswith("--share-weights needs --model-path")
