"""Python, the command line, a notebook and Octave extract by TLS with a token.

Each says in one sentence what is wrong: the certificate, the token or the scope.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from safetensors.numpy import save
from typer.testing import CliRunner

from support.lab import FUTURE, PAST, Lab, found_lab
from support.octave import run_octave
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.cli import app
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens import new_token

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "classifier.3"

SENTENCES = {
    "certificate": (
        r"The certificate of the server at grpcs://\S+ is of an authority that this client does "
        r"not trust \(unable to get local issuer certificate\): pass the authority's file, {ca}, "
        r"or set THINGSVISION_CA; the server's operator has it\."
    ),
    "token": r"the call's token is not one of this server's tokens; Ada of the lab gives tokens",
    "expired": r"the token \w+ of ada expired on \S+ \S+ UTC; Ada of the lab gives tokens",
    "revoked": r"the token \w+ of ada was revoked on \S+ \S+ UTC; Ada of the lab gives tokens",
    "scope": (
        r"(?:Extract|ListModules) needs the scope `extract`, and the token \w+ of ada has read: "
        r"Ada of the lab gives scopes \(thingsvision-server token new --scopes extract,\.\.\.\)"
    ),
}
"""What is said where one thing is wrong; `{ca}` is how a user of the language passes the file."""


@dataclass(frozen=True)
class Case:
    """What somebody shows: a token, and whom they trust."""

    ca: Path
    token: str


@pytest.fixture(scope="module")
def url(lab_server: TestServer) -> str:
    return f"grpcs://{lab_server.address}"


@pytest.fixture(scope="module")
def cases(
    lab: Lab, lab_server: TestServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Case]:
    """The right case, and those of `SENTENCES`."""
    good = lab.add_token("ada", Scope.READ, Scope.EXTRACT, expires=FUTURE)
    made = {
        "good": Case(lab.ca, good),
        "certificate": Case(found_lab(tmp_path_factory.mktemp("other")).ca, good),
        "token": Case(lab.ca, new_token()[1]),
        "expired": Case(lab.ca, lab.add_token("ada", Scope.EXTRACT, expires=PAST)),
        "revoked": Case(lab.ca, lab.add_token("ada", Scope.EXTRACT, revoked=PAST)),
        "scope": Case(lab.ca, lab.add_token("ada", Scope.READ)),
    }
    lab_server.running.access.look()
    return made


@pytest.fixture(scope="module")
def row(url: str, cases: dict[str, Case], photos: list[Path]) -> Any:
    """What Python extracts."""
    good = cases["good"]
    with Client(url, ca=good.ca, token=good.token) as client:
        found = client.extract(MODEL, photos[:1], MODULE, batch_size=1)
        return found.features[MODULE].ravel()


def check_sentence(case: str, said: str, ca: str) -> None:
    expected = SENTENCES[case].replace("{ca}", ca)
    assert re.fullmatch(expected, said), said


@pytest.mark.parametrize("case", SENTENCES)
def test_python_says_what_is_wrong(
    case: str, url: str, cases: dict[str, Case], photos: list[Path]
) -> None:
    shown = cases[case]
    with (
        Client(url, ca=shown.ca, token=shown.token) as client,
        pytest.raises(ThingsvisionError) as caught,
    ):
        client.extract(MODEL, photos[:1], MODULE)
    check_sentence(case, str(caught.value), "ca='ca.pem'")


@pytest.mark.parametrize("case", ["good", *SENTENCES])
def test_the_command_line_extracts_or_says_what_is_wrong(
    case: str, url: str, cases: dict[str, Case], photos: list[Path], row: Any, tmp_path: Path
) -> None:
    shown, token_file = cases[case], tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text(f"{shown.token}\n")
    photo = tmp_path / "photos" / photos[0].name
    photo.parent.mkdir()
    photo.write_bytes(photos[0].read_bytes())
    files = ["--ca", str(shown.ca), "--token-file", str(token_file)]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        ["extract-features", "--server", url, *files, "--model-name", MODEL,
         "--module-name", MODULE, "--image-root", str(photo.parent), "--out-path", str(out)],
    )  # fmt: skip
    print(done.output, done.exception)
    if case == "good":
        assert done.exit_code == 0
        (found,) = out.rglob("*.npy")
        np.testing.assert_array_equal(np.load(found).ravel(), row)
    else:
        from thingsvision_client.commands.sentences import in_shell

        check_sentence(case, in_shell(str(done.exception)), "--ca ca.pem")


def test_the_program_says_it_in_one_line(url: str, cases: dict[str, Case], tmp_path: Path) -> None:
    """gRPC has a line of its own for each handshake that fails."""
    shown = cases["certificate"]
    run = "from thingsvision_client.program import main; main()"
    kept = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", run, "status", "--server", url, "--ca", str(shown.ca)],
        env=kept | {"THINGSVISION_TOKEN": shown.token},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.removesuffix("\n").removeprefix("Error: ")
    check_sentence("certificate", said, "--ca ca.pem")


def test_who_has_no_token_is_told_how_to_pass_it(url: str, cases: dict[str, Case]) -> None:
    ca = cases["good"].ca
    with Client(url, ca=ca) as client, pytest.raises(ThingsvisionError) as caught:
        client.residency()
    expected = (
        "this server asks for a token, and the call has none: set THINGSVISION_TOKEN, write it "
        "into ~/.config/thingsvision/token, or pass {how}; Ada of the lab gives tokens"
    )
    assert str(caught.value) == expected.replace("{how}", "token=...")
    from thingsvision_client.commands.sentences import in_shell

    assert in_shell(str(caught.value)) == expected.replace("{how}", "--token-file FILE")


def test_octave_extracts_shares_and_says_what_is_wrong(
    url: str,
    cases: dict[str, Case],
    photos: list[Path],
    row: Any,
    lab: Lab,
    lab_server: TestServer,
    tmp_path: Path,
) -> None:
    names = {"good": "GOOD", "token": "WRONG", "expired": "EXPIRED"}
    names |= {"revoked": "REVOKED", "scope": "READER"}
    tokens = {f"TOKEN_{name}": cases[case].token for case, name in names.items()}
    scopes = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD)
    tokens["TOKEN_SENDER"] = lab.add_token("octavia", *scopes, group="of-octave")
    lab_server.running.access.look()
    weights = tmp_path / "own weights.safetensors"
    weights.write_bytes(save({"weight": np.arange(8, dtype=np.float32)}))
    paths = f"'{cases['good'].ca}', '{cases['certificate'].ca}', '{photos[0]}', '{weights}'"
    found = run_octave(f"access_calls('{url}', {paths})", tmp_path, **tokens)
    np.testing.assert_array_equal(found["rows"].ravel(), row)
    digest = sha256(weights.read_bytes()).hexdigest()
    assert [*found["sharing"]] == [digest, "upload", "@of-octave"]
    assert found["unsharing"][0] == "upload"
    assert not len(found["unsharing"][1])
    for call, kind, words in (
        ("anothers", "NotFound", f"you have nothing with the SHA-256 {digest}"),
        ("nothing", "InvalidRequest", "a text with its SHA-256 (64 lower-case hex digits"),
        ("number", "InvalidRequest", "what must be a text"),
    ):
        identifier, said = found[call]
        assert identifier == f"thingsvision:{kind}"
        assert words in said
    kinds = {"certificate": "Certificate", "scope": "PermissionDenied"}
    for case in SENTENCES:
        identifier, said = found[case]
        assert identifier == f"thingsvision:{kinds.get(case, 'Unauthenticated')}"
        check_sentence(case, said, "'Ca', 'ca.pem'")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(token.encode() in kept for token in tokens.values())


NOTEBOOK = """
import os
from thingsvision_client import connect, get_extractor
from thingsvision_client.client import shared_client

def extract(case):
    connect(os.environ["URL"], ca=os.environ[f"CA_{case}"], token=os.environ[f"TOKEN_{case}"])
    model, photos = os.environ["MODEL"], [os.environ["PHOTO"]]
    return shared_client().extract(model, photos, "classifier.3", batch_size=1)
"""


def test_a_notebook_extracts_and_says_what_is_wrong(
    url: str,
    cases: dict[str, Case],
    photos: list[Path],
    row: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name, text in {"URL": url, "MODEL": MODEL, "PHOTO": str(photos[0])}.items():
        monkeypatch.setenv(name, text)
    for case, shown in cases.items():
        monkeypatch.setenv(f"CA_{case}", str(shown.ca))
        monkeypatch.setenv(f"TOKEN_{case}", shown.token)
    cells = [NOTEBOOK, "print(*extract('good').features['classifier.3'].ravel().tolist())"]
    cells += [f"extract('{case}')" for case in SENTENCES]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=True, resources=resources
    ).execute()
    _, good, *wrong = notebook.cells
    printed = "".join(one.text for one in good.outputs if one.get("name") == "stdout")
    np.testing.assert_array_equal(np.array(printed.split(), np.float32), row)
    for case, cell in zip(SENTENCES, wrong, strict=True):
        (error,) = [one for one in cell.outputs if one.output_type == "error"]
        check_sentence(case, error.evalue, "ca='ca.pem'")
    executed = nbformat.writes(notebook)
    assert not any(shown.token in executed for shown in cases.values())
