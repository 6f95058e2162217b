"""The audit log: who changed what, who was refused; and a token is in no file at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from support.lab import found_lab
from support.server_process import server_process
from thingsvision_client import Client
from thingsvision_client.errors import (
    NotResidentError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownWeightsError,
)
from thingsvision_server.access.audit import AUDITED_METHODS, AuditLog
from thingsvision_server.access.scopes import METHOD_SCOPES, Scope
from thingsvision_server.errors import PreconditionError

MODEL = "torchvision/squeezenet1_1@random:0"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_change_and_refusal_is_a_line_and_no_file_has_a_token(
    tmp_path: Path, photos: list[Path]
) -> None:
    lab = found_lab(tmp_path)
    audit = tmp_path / "audit.jsonl"
    right = lab.add_token("ada", Scope.UPLOAD, Scope.CONTROL, Scope.READ, Scope.EXTRACT)
    reader = lab.add_token("bob", Scope.READ)
    wrong = right[:-1] + ("a" if right[-1] != "a" else "b")
    network = tmp_path / "net.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), network)
    run = tmp_path / "run"
    run.mkdir()
    options = lab.server_files | {"audit_log": audit, "log_level": "debug"}
    with server_process(run, **options) as server:
        with Client(server.address, token=right, ca=lab.ca) as client:
            sha256 = client.upload_weights(network)
            client.pin(MODEL)
            client.pin(MODEL, pinned=False)
            client.extract(MODEL, photos[:1], "features.0")
            client.unload(MODEL)
            with pytest.raises(NotResidentError):
                client.unload(MODEL)
            client.delete_upload(sha256)
            with pytest.raises(UnknownWeightsError):
                client.delete_upload(sha256)
        for token, error in ((reader, PermissionDeniedError), (wrong, UnauthenticatedError)):
            with Client(server.address, token=token, ca=lab.ca) as client, pytest.raises(error):
                client.pin(MODEL)
    found = lines(audit)
    assert audit.stat().st_mode & 0o777 == 0o600
    events = [(one["event"], one.get("status") or one["refused"]) for one in found]
    assert events == [
        ("UploadWeights", "OK"),
        ("PinModel", "OK"),
        ("PinModel", "OK"),
        ("UnloadModel", "OK"),
        ("UnloadModel", "NOT_FOUND"),
        ("DeleteUpload", "OK"),
        ("DeleteUpload", "NOT_FOUND"),
        ("PinModel", "PermissionDeniedError"),
        ("PinModel", "UnauthenticatedError"),
    ]
    assert {one["person"] for one in found[:7]} == {"ada"}
    assert all(one["client"].startswith("ipv4:127.0.0.1:") for one in found)
    assert found[0]["sha256"] == found[5]["sha256"] == sha256
    assert [one["pinned"] for one in found[1:3]] == [True, False]
    assert found[3]["model"] == MODEL
    assert found[3]["credential"] == f"token {right.split('_')[1]}"
    assert "of bob has read" in found[7]["detail"]
    secrets = [token.split("_")[2].encode() for token in (right, reader, wrong)]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret[:20] in content for secret in secrets), file


def test_what_is_audited_are_methods_that_need_more_than_reading() -> None:
    assert set(METHOD_SCOPES) >= AUDITED_METHODS
    assert all(METHOD_SCOPES[one] is not Scope.READ for one in AUDITED_METHODS)


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_disk(tmp_path: Path) -> None:
    now = [0.0]
    log = AuditLog(tmp_path / "audit.jsonl", lambda: now[0])
    for _ in range(1000):
        log.record_refusal("Extract", refused="UnauthenticatedError")
    log.record("PinModel", person="ada")  # what people did is always written
    now[0] = 1.0
    log.record_refusal("Extract", refused="UnauthenticatedError")
    found = lines(tmp_path / "audit.jsonl")
    assert len(found) == 22
    assert found[20]["event"] == "PinModel"
    assert found[21]["unwritten_refusals"] == 980


def test_the_file_may_be_rotated_and_must_be_writable(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.record("PinModel", person="ada")
    path.rename(tmp_path / "audit.1")
    log.record("PinModel", person="bob")
    assert [one["person"] for one in lines(path)] == ["bob"]
    with pytest.raises(PreconditionError, match="can't write to the audit log"):
        AuditLog(tmp_path / "none" / "audit.jsonl")
    AuditLog(None).record("PinModel", person="ada")
