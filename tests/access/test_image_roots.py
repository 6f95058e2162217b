"""Image roots: several, with names, and who may read which."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lab import Lab
from support.serving import TestServer, serving
from thingsvision_client import Client
from thingsvision_client.errors import ImageError, InvalidRequestError, PermissionDeniedError
from thingsvision_server.access.image_roots import ImageRoot, parse_image_roots
from thingsvision_server.access.scopes import Scope
from thingsvision_server.errors import PreconditionError
from thingsvision_server.settings import Settings
from thingsvision_server.start.checks import find_mistakes

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.0"
SCOPES = (Scope.READ, Scope.EXTRACT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """Three folders with an image of the same name, but another image."""
    above = tmp_path_factory.mktemp("images")
    for photo, name in zip(photos, ("all", "adas", "labs"), strict=False):
        (above / name / "sub").mkdir(parents=True)
        shutil.copy(photo, above / name / "sub" / f"one{photo.suffix}")
        shutil.copy(photo, above / name / f"two{photo.suffix}")
    return above


@pytest.fixture(scope="module")
def shared(
    folders: Path, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestServer]:
    roots = [f"{folders}/all", f"{folders}/adas=ada:grace", f"{folders}/labs=@lab:eve"]
    settings = {**lab.server_files, "image_root": ",".join(roots)}
    with serving(tmp_path_factory.mktemp("weights"), **settings) as server:
        yield server


def open_client(lab: Lab, server: TestServer, name: str, *more: Scope, group: str = "") -> Client:
    token = lab.add_token(name, *SCOPES, *more, group=group)
    server.running.access.look()
    return Client(server.address, token=token, ca=lab.ca)


def names(client: Client, folder: str = "") -> list[str]:
    return [image.name for image in client.server_images(folder)]


def labels(client: Client) -> list[str]:
    return sorted({name.partition("/")[0] for name in names(client)})


def test_each_person_sees_and_reads_the_roots_of_the_own_name(lab: Lab, shared: TestServer) -> None:
    ada, bob = open_client(lab, shared, "ada"), open_client(lab, shared, "bob", group="lab")
    eve = open_client(lab, shared, "eve")
    admin = open_client(lab, shared, "root", Scope.ADMIN)
    assert labels(ada) == ["adas", "all"]
    assert labels(bob) == labels(eve) == ["all", "labs"]
    assert labels(admin) == ["adas", "all", "labs"]
    own = ada.server_images("adas")
    assert len(own) == 2
    found = ada.extract(MODEL, own, MODULE)
    assert found.features[MODULE].shape[0] == 2
    # What ada found, bob may not read, and hears no more than of a root that is not there.
    for folder in ("adas", "adas/sub", "nowhere", "all/../adas"):
        with pytest.raises(InvalidRequestError, match="has no folder"):
            bob.server_images(folder)
    with pytest.raises(ImageError, match="must be an image file below this server's image root"):
        bob.extract(MODEL, own, MODULE)
    for client in (ada, bob, eve, admin):
        client.close()


def test_the_same_name_in_two_roots_is_two_images(lab: Lab, shared: TestServer) -> None:
    with open_client(lab, shared, "ada") as ada:
        rows = [
            ada.extract(MODEL, ada.server_images(f"{label}/sub"), MODULE).features[MODULE]
            for label in ("adas", "all")
        ]
    assert rows[0].shape == rows[1].shape
    assert (rows[0] != rows[1]).any()


def test_one_root_has_names_without_its_folder(folders: Path, lab: Lab, tmp_path: Path) -> None:
    settings = {**lab.server_files, "image_root": f"{folders}/adas=ada"}
    with serving(tmp_path / "weights", **settings) as server:
        with open_client(lab, server, "ada") as ada:
            assert [name.partition(".")[0] for name in names(ada)] == ["two", "sub/one"]
        why = "no image root that bob may read"
        with (
            open_client(lab, server, "bob") as bob,
            pytest.raises(PermissionDeniedError, match=why),
        ):
            bob.server_images()


def test_roots_are_read_from_their_texts(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a,b").mkdir()
    found = parse_image_roots(["/x/one", "/x/two=ada:@lab", str(tmp_path / "a=b"), "/a=b/c"]).roots
    assert found == (
        ImageRoot(Path("/x/one")),
        ImageRoot(Path("/x/two"), frozenset({"ada", "@lab"})),
        ImageRoot(tmp_path / "a=b"),
        ImageRoot(Path("/a=b/c")),
    )
    for wrong in (["/x="], ["=ada"], ["/x=:"], ["/x/one", "/y/one"]):
        with pytest.raises(PreconditionError, match="--image-root must be"):
            parse_image_roots(wrong)
    assert Settings(image_root=tmp_path / "a,b").image_root == [str(tmp_path / "a,b")]
    assert Settings(image_root=str(tmp_path / "a,b")).image_root == [str(tmp_path / "a,b")]
    assert Settings(image_root="/x,/y=ada").image_root == ["/x", "/y=ada"]


def test_names_without_tokens_are_a_mistake(tmp_path: Path) -> None:
    settings = Settings(image_root=f"{tmp_path}=ada", port=0, metrics_port=0, device="cpu")
    assert [one for one in find_mistakes(settings) if "image-root" in one] == [
        "--image-root with names of people needs --tokens, which says who is who"
    ]
