"""What shells complete: the completions of the command line, asked as bash, zsh and fish ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.dead_ends import closed_port
from support.serving import TestServer
from thingsvision_client.cli import app

PROGRAM = "thingsvision-client"
VARIABLE = "_THINGSVISION_CLIENT_COMPLETE"


def completions(server: str, line: str) -> list[str]:
    """Return what bash is offered for a line that ends where the cursor is."""
    words = [PROGRAM, *line.split(" ")]
    environment = {
        VARIABLE: "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "THINGSVISION_SERVER": server,
    }
    done = CliRunner().invoke(app, [], env=environment, prog_name=PROGRAM)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("comp", ["compute-rdm"]),
        ("extract-features --mod", ["--model-name", "--model-path", "--model-parameters"]),
        ("extract-features --source t", ["timm", "torchvision", "transformers"]),
        ("models --source ke", ["keras"]),
        ("models torchvision/alex", ["torchvision/alexnet"]),
        ("show-model --model-name torchvision/alex", ["torchvision/alexnet"]),
        ("show-model --source torchvision --model-name alex", ["alexnet"]),
        ("show-model --model-name alex", ["alexnet"]),
        ("load torchvision/alex", ["torchvision/alexnet"]),
        ("compute-rdm --method co", ["correlation", "cosine"]),
        ("extract-features --file-format np", ["npy", "npz"]),
        ("convert-features a.npy --file-format hd", ["hdf5"]),
        ("extract-features --output-type t", ["tensor"]),
        ("extract-features --token-extraction avg", ["avg_pool"]),
        ("plot-rdms --scale ra", ["ranks"]),
    ],
)
def test_choices_are_completed(server: TestServer, line: str, offered: list[str]) -> None:
    found = completions(server.address, line)
    assert [one for one in found if one in offered] == found or set(offered) <= set(found)
    assert set(found) <= {*offered, "--module-name", "transformers"}


@pytest.mark.parametrize(
    "model",
    [
        "--source torchvision --model-name alexnet",
        "--model-name torchvision/alexnet",
        "--model-name torchvision/alexnet@random:0",
        "--model-name alexnet",
    ],
)
def test_modules_of_the_named_model_are_completed(server: TestServer, model: str) -> None:
    found = completions(server.address, f"extract-features {model} --module-name classifier.")
    assert found == [f"classifier.{n}" for n in range(7)]


def test_the_address_on_the_line_is_asked(server: TestServer) -> None:
    asked = f"--server {server.address} extract-features --source torchv"
    assert completions("localhost:1", asked) == ["torchvision"]


def test_without_a_server_there_is_soon_nothing_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another test of this process may have called connect().
    monkeypatch.setattr("thingsvision_client.rpc.address._default_address", "")
    with closed_port() as port:
        began = time.monotonic()
        assert completions(f"127.0.0.1:{port}", "models --source t") == []
        assert time.monotonic() - began < 10
    assert completions("", "models --source t") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_real_shell_completes(server: TestServer, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    folder = Path(sys.executable).parent
    environment = os.environ | {
        "THINGSVISION_SERVER": server.address,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }
    source = {"bash": f'eval "$({VARIABLE}=source_bash {PROGRAM})"'}
    source["fish"] = f"{VARIABLE}=source_fish {PROGRAM} | source"
    line = f"{PROGRAM} extract-features --source torchv"
    script = {
        "bash": f"{source['bash']}; COMP_WORDS=({line}); COMP_CWORD=3; "
        f'_thingsvision_client_completion {PROGRAM}; echo "${{COMPREPLY[@]}}"',
        "fish": f"{source['fish']}; complete -C '{line}'",
        # zsh completes on a terminal alone: this is what its function evaluates.
        "zsh": f"_arguments() {{ print -r -- $@ }}; compdef() {{ }}; "
        f'eval "$({VARIABLE}=source_zsh {PROGRAM})"; '
        f"words=({line}); CURRENT=4; _thingsvision_client_completion",
    }[shell]
    done = subprocess.run([shell, "-c", script], env=environment, capture_output=True, text=True)
    assert "torchvision" in done.stdout, done.stderr
    assert "timm" not in done.stdout
