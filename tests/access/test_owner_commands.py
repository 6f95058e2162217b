"""Sharing, its end, and new owners: by Python and by the command line, over TLS with tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from support.lab import Lab
from support.own_files import onnx_file
from support.own_networks import SIZE, network
from support.serving import TestServer
from support.tiny_pcas import MODEL, MODULE, SMALL
from thingsvision_client import Client, Reduction, errors
from thingsvision_client.cli import app
from thingsvision_client.values.ownership import Ownership, Sharing
from thingsvision_client.values.pca import PCA
from thingsvision_server.access.scopes import Scope

WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD, Scope.CONTROL)
GROUP = "of-the-commands"


class Members:
    """Clients and commands of people of the lab, each with a token."""

    def __init__(self, lab: Lab, server: TestServer, folder: Path) -> None:
        self._lab, self._server, self._folder = lab, server, folder
        self._tokens: dict[str, str] = {}
        self.opened = ExitStack()

    def add(self, name: str, *scopes: Scope, group: str = "") -> str:
        self._tokens[name] = self._lab.add_token(name, *(scopes or WORK), group=group)
        self._server.running.access.look()
        return name

    @property
    def address(self) -> str:
        return f"grpcs://{self._server.address}"

    def client(self, name: str) -> Client:
        one = Client(self.address, token=self._tokens[name], ca=self._lab.ca)
        return self.opened.enter_context(one)

    def run(self, name: str, *arguments: object) -> Result:
        file = self._folder / name
        file.write_text(self._tokens[name])
        file.chmod(0o600)
        access = ["--token-file", file, "--ca", self._lab.ca, "--server", self.address]
        command = [str(one) for one in (*arguments, *access)]
        return CliRunner().invoke(app, command, env={"COLUMNS": "400"})

    def printed(self, name: str, *arguments: object) -> str:
        done = self.run(name, *arguments)
        assert done.exit_code == 0, f"{done.output} {done.exception}"
        return done.stdout

    def refused(self, name: str, *arguments: object) -> errors.ThingsvisionError:
        failed = self.run(name, *arguments).exception
        assert isinstance(failed, errors.ThingsvisionError), failed
        return failed


@pytest.fixture
def members(lab: Lab, lab_server: TestServer, tmp_path: Path) -> Iterator[Members]:
    found = Members(lab, lab_server, tmp_path)
    with found.opened:
        yield found


@pytest.fixture
def few(photos: list[Path], tmp_path: Path) -> Path:
    """A folder with three photographs."""
    folder = tmp_path / "few"
    folder.mkdir()
    for photo in photos[:3]:
        (folder / photo.name).symlink_to(photo)
    return folder


Fit = Callable[..., PCA]


@pytest.fixture
def fit(few: Path) -> Fit:
    def fit_pca(client: Client, name: str = "set", components: int = 1, **more: bool) -> PCA:
        return client.fit_pca(
            MODEL, few, MODULE, components=components, name=name, preprocessing=SMALL, **more
        )

    return fit_pca


def scores(client: Client, few: Path, pca: str) -> str:
    """Return the SHA-256 of the PCA that a name means, by using it."""
    found = client.extract(MODEL, few, MODULE, reduction=Reduction(pca=pca), preprocessing=SMALL)
    assert found.provenance.pca is not None
    return found.provenance.pca.sha256


def test_what_is_shared_is_used_by_the_group_until_it_is_shared_no_more(
    members: Members, few: Path, fit: Fit
) -> None:
    ada = members.client(members.add("ada-c", group=GROUP))
    bob = members.client(members.add("bob-c", group=GROUP))
    eve = members.client(members.add("eve-c"))
    pca = fit(ada, share=True)
    assert pca.ownership == Ownership(("ada-c",), True)
    assert "ada-c (shared)" in repr(pca)
    assert [one.sha256 for one in bob.pcas()] == [pca.sha256]
    assert scores(bob, few, pca.sha256) == pca.sha256
    with pytest.raises(errors.UnknownPCAError, match=f"ada-c shares .* SHA-256, {pca.sha256}"):
        scores(bob, few, "set")
    with pytest.raises(errors.PermissionDeniedError, match="belongs to ada-c"):
        bob.delete_pca(pca.sha256)
    with pytest.raises(errors.PermissionDeniedError, match="only an owner or an admin can share"):
        bob.unshare(pca)
    with pytest.raises(errors.NotFoundError, match="you have nothing with the SHA-256"):
        eve.share(pca.sha256)
    assert eve.pcas() == []
    assert ada.unshare(pca.sha256) == Sharing(("PCA",), "")
    assert bob.pcas() == []
    with pytest.raises(errors.UnknownPCAError):
        scores(bob, few, pca.sha256)
    assert str(ada.share(pca)) == f"The PCA is shared with the group {GROUP}"
    assert scores(bob, few, pca.sha256) == pca.sha256
    assert fit(ada) == pca  # the same call finds it, and leaves it shared
    # Bob fits the same: it is his, too, and he may share it with his group.
    his = fit(bob)
    assert his.sha256 == pca.sha256
    assert scores(bob, few, "set") == pca.sha256
    assert ada.delete_pca("set") == 0
    assert [one.ownership for one in bob.pcas()] == [Ownership(("bob-c",), False)]
    assert ada.pcas() == []
    assert bob.delete_pca("set") == pca.size_bytes


def test_the_command_line_shares_lists_and_moves(
    members: Members, few: Path, fit: Fit, tmp_path: Path
) -> None:
    for name in ("ada-l", "bob-l"):
        members.add(name)
    members.add("root-l", Scope.ADMIN)
    network = ["--model-name", MODEL, "--module-name"]
    places = [MODULE, "--image-root", few, "--resize", 64, "--crop", 64]
    made = members.run(
        "ada-l", "fit-pca", *network, *places, "--components", 1, "--name", "hers", "--share"
    )
    assert made.exit_code == 0, made.output
    sha256 = made.stdout.split()[-1]
    assert f"{sha256}" in members.printed("bob-l", "pcas")
    assert "ada-l (shared)" in members.printed("bob-l", "pcas")
    said = members.printed("ada-l", "unshare", sha256)
    assert said == "The PCA is shared with nobody.\n"
    assert "no PCAs" in members.printed("bob-l", "pcas")
    said = members.printed("ada-l", "share", f"sha256:{sha256}")
    assert said == "The PCA is shared with everybody whom the server lets in.\n"
    # Bob has a PCA by that name, which must mean the same after Ada's come along.
    bob = members.client("bob-l")
    own = bob.fit_pca(MODEL, few, MODULE, components=2, name="hers", preprocessing=SMALL)
    refused = members.refused("bob-l", "move-owner", "ada-l", "bob-l")
    assert isinstance(refused, errors.PermissionDeniedError)
    assert "needs the scope `admin`" in str(refused)
    refused = members.refused("root-l", "move-owner", "ada-l", "nobody-l")
    assert "`new` must be the name of a person in the tokens file" in str(refused)
    refused = members.refused("root-l", "move-owner", "ada-l", "ada-l")
    assert "`new` must be another person than `old`" in str(refused)
    said = members.printed("root-l", "move-owner", "ada-l", "bob-l")
    assert said.startswith("What was ada-l's is bob-l's: 1 PCA, ")  # and images
    said = members.printed("root-l", "move-owner", "ada-l", "bob-l")
    assert said == "Nothing was ada-l's.\n"
    assert scores(bob, few, "hers") == own.sha256
    assert scores(bob, few, "hers (ada-l)") == sha256
    listed = json.loads(members.printed("bob-l", "pcas", "--json"))
    assert {one["name"]: one["ownership"] for one in listed} == {
        "hers": {"owners": ["bob-l"], "shared": False},
        "hers (ada-l)": {"owners": ["bob-l"], "shared": True},
    }
    for one in bob.pcas():
        bob.delete_pca(one.sha256)


def test_what_names_nothing_is_refused_before_it_is_sent(members: Members) -> None:
    members.add("ada-n")
    for wrong in ("stimuli", "own/abc", "a" * 63, f"{'a' * 64} {'b' * 64}"):
        assert "must be an upload, a PCA" in str(members.refused("ada-n", "share", wrong))


def test_an_upload_is_shared_by_who_may_upload(
    members: Members, tmp_path: Path, photos: list[Path]
) -> None:
    ada = members.client(members.add("ada-u"))
    bob = members.client(members.add("bob-u", Scope.READ, Scope.EXTRACT))
    path = onnx_file(network(77), tmp_path / "net.onnx")
    model = ada.upload_model(path, {"resize_pixels": [SIZE, SIZE]}, share=True)
    assert [one.ownership for one in bob.uploads() if one.sha256 == model.name] == [
        Ownership(("ada-u",), True)
    ]
    whole = bob.extract(model, photos[:2], "logits")
    assert whole.features["logits"].shape == (2, 5)
    assert str(ada.unshare(model)) == "The upload is shared with nobody"
    with pytest.raises(errors.NotFoundError):
        bob.extract(model, photos[:2], "logits")
    assert "upload is shared with everybody" in members.printed("ada-u", "share", model)
    ada.unload(model)
    torch.save(torch.nn.Linear(4, 4).state_dict(), tmp_path / "net.pth")
    sha256 = members.printed("ada-u", "upload", tmp_path / "net.pth", "--share").split()[-1]
    assert sha256.removeprefix("sha256:") in {one.sha256 for one in bob.uploads()}
    weaker = members.client(members.add("ada-u", Scope.READ, Scope.EXTRACT))
    with pytest.raises(errors.PermissionDeniedError, match="needs the scope `upload`"):
        weaker.unshare(model)
