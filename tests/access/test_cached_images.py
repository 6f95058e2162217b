"""Whose cached images are, over a socket: who finds, uses, lists, shares and deletes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.lab import Lab, found_lab
from support.serving import TestServer
from thingsvision_client import Client, errors
from thingsvision_client.cli import app
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.scopes import Scope

MODEL, MODULE = "torchvision/squeezenet1_0@random:0", "features.5"
Connect = Callable[[str], Client]


@pytest.fixture
def caching(
    tmp_path: Path, start_server: Callable[..., TestServer]
) -> Iterator[tuple[Lab, TestServer]]:
    (tmp_path / "lab").mkdir()
    lab = found_lab(tmp_path / "lab")
    with start_server(**lab.server_files, image_store=50_000_000) as server:
        yield lab, server


@pytest.fixture
def connect(caching: tuple[Lab, TestServer]) -> Iterator[Connect]:
    """Return what connects a person, with a group if the name has one after a dash."""
    lab, server = caching
    with ExitStack() as opened:

        def connect(name: str, *more: Scope) -> Client:
            group = name.partition("-")[2]
            scopes = (Scope.READ, Scope.EXTRACT, *more)
            token = lab.add_token(name, *scopes, group=group)
            server.running.access.look()
            address = f"grpcs://{server.address}"
            return opened.enter_context(Client(address, token=token, ca=lab.ca))

        yield connect


def missing(client: Client, sha256: str) -> list[int]:
    request = pb.FindImagesRequest(sha256=[bytes.fromhex(sha256)])
    reply = client._connection.caller.ask(client._connection.stubs.images.FindImages, request)
    return list(reply.missing)


def uses(client: Client, sha256: str) -> bool:
    """Return whether a person may refer to an image by its digest."""
    image = pb.Image(name="it", kept_sha256=bytes.fromhex(sha256))
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_0", random_seed=0)
    header = pb.ExtractHeader(model=spec, modules=[MODULE])
    requests = [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]
    caller = client._connection.caller
    try:
        method = client._connection.stubs.features.Extract
        list(caller.exchange(method, iter(requests), MODEL))
    except errors.UnknownImageError:
        return False
    return True


def test_an_image_is_used_listed_and_deleted_by_its_owners(
    connect: Connect, photos: list[Path]
) -> None:
    ann, ben, eve = connect("ann-lab"), connect("ben-lab"), connect("eve")
    admin = connect("head", Scope.ADMIN)
    ann.extract(MODEL, photos[:3], MODULE)
    (image, *_) = ann.cached_images()
    assert len(ann.cached_images()) == 3
    assert image.ownership.owners == ("ann-lab",)
    for stranger in (ben, eve):
        assert missing(stranger, image.sha256) == [0]
        assert not uses(stranger, image.sha256)
        assert stranger.cached_images() == []
        assert stranger.delete_cached_images([image]).image_count == 0
        with pytest.raises(errors.NotFoundError):
            stranger.share(image.sha256)
    assert missing(ann, image.sha256) == []
    assert uses(ann, image.sha256)
    assert str(ann.share(image.sha256)) == "The image is shared with the group lab"
    assert missing(ben, image.sha256) == []
    assert uses(ben, image.sha256)
    assert [one.ownership.owners for one in ben.cached_images()] == [("ann-lab",)]
    assert ben.delete_cached_images([image]).image_count == 0
    assert missing(eve, image.sha256) == [0]
    ann.unshare(image.sha256)
    assert missing(ben, image.sha256) == [0]
    assert len(admin.cached_images()) == 3
    with pytest.raises(errors.PermissionDeniedError, match="an admin alone"):
        ben.delete_cached_images(owner="ann-lab")
    ben.extract(MODEL, photos[:2], MODULE)
    assert admin.delete_cached_images(owner="ann-lab").image_count == 3
    assert ann.cached_images() == []
    assert len(ben.cached_images()) == 2
    done = ben.delete_cached_images()
    assert done.image_count == 2
    assert done.freed_bytes == sum(path.stat().st_size for path in photos[:2])
    assert admin.cached_images() == []


def test_an_admin_gives_images_to_another(connect: Connect, photos: list[Path]) -> None:
    leaving, new, admin = connect("leaving"), connect("new"), connect("chief", Scope.ADMIN)
    leaving.extract(MODEL, photos[:2], MODULE)
    assert admin.move_owner("leaving", "new") == {"image": 2}
    assert leaving.cached_images() == []
    assert [one.ownership.owners for one in new.cached_images()] == [("new",)] * 2
    assert admin.delete_cached_images(owner="*").image_count == 2


@pytest.mark.parametrize(
    ("images", "owner", "sentence"),
    [
        (["abc"], None, "`images` must be records of `cached_images`, or the SHA-256"),
        (["0" * 64], "me", "`owner` must be left out if `images` names them"),
    ],
)
def test_a_wrong_name_is_an_error(
    client: Client, images: list[str], owner: str | None, sentence: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        client.delete_cached_images(images, owner=owner)


def test_the_command_lists_and_deletes(
    start_server: Callable[..., TestServer], photos: list[Path]
) -> None:
    with start_server(image_store=50_000_000) as server, Client(server.address) as client:
        client.extract(MODEL, photos[:3], MODULE)

        def run(*words: str) -> str:
            found = CliRunner().invoke(app, ["--server", server.address, *words])
            assert found.exit_code == 0, found.output
            return found.output

        first = client.cached_images()[0]
        assert f"{first.sha256}  {first.size_bytes:,}" in run("cached-images")
        assert "admin (shared)" in run("cached-images")
        assert len(json.loads(run("cached-images", "--json"))) == 3
        assert "1 image deleted" in run("delete-cached-images", first.sha256)
        assert "2 images deleted" in run("delete-cached-images", "--all")
        assert "has cached no images for you" in run("cached-images")
        wrong = CliRunner().invoke(app, ["--server", server.address, "delete-cached-images"])
        assert wrong.exit_code == 2
