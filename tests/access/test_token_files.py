"""The tokens file and its commands: what they write, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from support.lab import Lab
from thingsvision_server.access.commands import main
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens import digest_of, has_digest, new_token
from thingsvision_server.access.tokens_file import read_register
from thingsvision_server.errors import PreconditionError, UnauthenticatedError

Run = Callable[..., str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a `token` command on the file, and return what it prints."""

    def run_command(command: str, *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([command, "--tokens", str(path), *arguments])
        printed = capsys.readouterr()
        return printed.err if ended.value.code else printed.out

    return run_command


def test_a_token_has_256_random_bits_and_is_known_by_its_digest() -> None:
    made = [new_token() for _ in range(1000)]
    assert all(re.fullmatch(rf"tv_{token_id}_[0-9A-Za-z]{{43}}", t) for token_id, t in made)
    assert len({token for _, token in made}) == len({token_id for token_id, _ in made}) == 1000
    assert len({token[-1] for _, token in made}) == 62
    token = made[0][1]
    assert has_digest(token, digest_of(token))
    assert not has_digest(token, digest_of(made[1][1]))
    assert not has_digest(token, None)


def test_new_prints_the_token_once_and_the_file_does_not_have_it(run: Run, path: Path) -> None:
    printed = run("new", "--name", "ada", "--scopes", "read, extract", "--days", "30")
    token = printed.split()[-1]
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    person = read_register(path).person_with_token(token)
    assert (person.name, person.scopes) == ("ada", {Scope.READ, Scope.EXTRACT})
    (row,) = json.loads(path.read_text())["tokens"]
    left = datetime.fromisoformat(row["expires"]) - datetime.now(timezone.utc)
    assert timedelta(days=29.9) < left <= timedelta(days=30)
    listed = run("list")
    assert listed.startswith(f"token {row['id']}: ada, read,extract, valid until ")
    assert token not in listed
    assert row["sha256"] not in listed


def test_revoked_tokens_stay_in_the_file_and_are_told_as_such(run: Run, path: Path) -> None:
    first = run("new", "--name", "ada", "--scopes", "read").split()[-1]
    second = run("new", "--name", "ada", "--scopes", "admin", "--group", "vision").split()[-1]
    token_id = first.split("_")[1]
    assert run("revoke", token_id) == f"Revoked the token {token_id} of ada.\n"
    register = read_register(path)
    with pytest.raises(UnauthenticatedError, match=rf"the token {token_id} of ada was revoked on"):
        register.person_with_token(first)
    assert register.person_with_token(second).group == "vision"
    assert "nothing that is valid in" in run("revoke", token_id)
    assert run("revoke", "--name", "ada").count("Revoked") == 1
    assert run("list").count("revoked on") == 2
    assert "one of them" in run("revoke")
    assert "one of them" in run("revoke", token_id, "--name", "ada")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "ada", "--scopes", "read,write"], "got 'write'"),
        (["--name", "ada", "--scopes", ""], "got ''"),
        (["--name", "Ada L.", "--scopes", "read"], "name: String should match"),
        (["--name", "", "--scopes", "read"], "name: String should match"),
        (["--name", "ada", "--scopes", "read", "--group", "a b"], "got 'a b'"),
        (["--name", "ada"], "Missing option '--scopes'"),
        (["--name", "ada", "--scopes", "read", "--days", "-1"], "--days"),
    ],
)
def test_new_refuses_what_can_not_be_a_row(run: Run, path: Path, arguments: Any, said: str) -> None:
    assert said in run("new", *arguments)
    assert not path.exists()


def test_a_certificate_is_let_in_by_its_subject_once(run: Run, path: Path) -> None:
    given = ["--name", "ada", "--scopes", "read", "--certificate", "CN=ada,O=lab"]
    assert "ada may use certificates with the subject CN=ada,O=lab" in run("new", *given)
    assert read_register(path).person_with_certificate("CN=ada,O=lab").name == "ada"
    with pytest.raises(UnauthenticatedError, match="no certificate with the subject 'CN=ada'"):
        read_register(path).person_with_certificate("CN=ada")
    before = path.read_bytes()
    assert "the subject 'CN=ada,O=lab' must be there once" in run("new", *given)
    assert path.read_bytes() == before
    run("revoke", "--certificate", "CN=ada,O=lab")
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        read_register(path).person_with_certificate("CN=ada,O=lab")


ROW = {"id": "a1", "sha256": "0" * 64, "name": "ada", "scopes": ["read"]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "the file: Input should be a valid dictionary"),
        ('{"version": 2}', "version: Input should be 1"),
        ('{"tokens": [], "tokens": []}', "an object has a key twice: tokens, tokens"),
        (json.dumps({"tokens": [ROW, ROW]}), "the token id 'a1' must be there once"),
        (json.dumps({"tokens": [ROW | {"expire": "2030-01-01"}]}), "expire: Extra inputs"),
        (json.dumps({"tokens": [ROW | {"expires": "2030-01-01T00:00"}]}), "timezone"),
        (json.dumps({"tokens": [ROW | {"scopes": []}]}), "scopes: Tuple should have at least 1"),
        (json.dumps({"tokens": [ROW | {"sha256": "AB"}]}), "sha256: String should match"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(path: Path, content: str, why: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(PreconditionError, match="is broken") as caught:
        read_register(path)
    assert why in str(caught.value)


def test_only_a_private_file_of_the_server_is_read(path: Path, tmp_path: Path, run: Run) -> None:
    token = run("new", "--name", "ada", "--scopes", "read").split()[-1]
    for mode in (0o640, 0o604, 0o660, 0o777):
        path.chmod(mode)
        with pytest.raises(PreconditionError, match=rf"alone \(0600\), got {mode:04o}: chmod 600"):
            read_register(path)
        assert "chmod 600 it" in run("new", "--name", "eve", "--scopes", "admin")
    path.chmod(0o400)
    read_register(path).person_with_token(token)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(PreconditionError, match="it is a link"):
        read_register(link)
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe, 0o600)
    for other, why in ((pipe, "regular file"), (tmp_path / "none", "No such"), (tmp_path, "reg")):
        with pytest.raises(PreconditionError, match=why):
            read_register(other)


def test_the_operators_name_needs_the_operators_scope(run: Run, path: Path) -> None:
    said = run("new", "--name", "admin", "--scopes", "read")
    assert "the name 'admin' owns what was stored" in said
    assert "sha256" not in said
    assert not path.exists()
    assert run("new", "--name", "admin", "--scopes", "admin").startswith("The token ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_the_servers_user(run: Run, path: Path) -> None:
    run("new", "--name", "ada", "--scopes", "read")
    os.chown(path, 12345, 12345)
    with pytest.raises(PreconditionError, match=r"owned by the server's user \(0\) or root"):
        read_register(path)
    run("new", "--name", "bob", "--scopes", "read")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (12345, 0o600)
    assert run("list").count("token ") == 2


@pytest.mark.parametrize("number", [0, errno.ENOLCK, errno.EOPNOTSUPP])
def test_who_changes_the_tokens_waits_also_on_a_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(fcntl, "flock", refuse)
    lab = Lab(tmp_path, None)  # type: ignore[arg-type]
    names = [f"p{one}" for one in range(12)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda name: lab.add_token(name, Scope.READ), names))
    assert sorted(one.name for one in read_register(lab.tokens).tokens) == sorted(names)
    assert list(tmp_path.iterdir()) == [lab.tokens]
