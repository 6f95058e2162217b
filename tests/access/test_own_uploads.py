"""Uploads of several people: each sees, uses and deletes what is theirs, and what is shared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from support.closeness import assert_close
from support.lab import Lab, bearer
from support.own_files import DECLARED, hooked, inputs, onnx_file
from support.own_networks import network
from support.serving import TestServer
from support.weight_files import MIB, digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import (
    InvalidRequestError,
    PermissionDeniedError,
    ThingsvisionError,
    UnknownModelError,
    UnknownWeightsError,
)
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.scopes import Scope

MODEL = "torchvision/squeezenet1_1"
WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD, Scope.CONTROL)

Connect = Callable[[str], Client]


class People:
    """Clients of people by name, and what their plain calls carry."""

    def __init__(self, lab: Lab, server: TestServer, opened: ExitStack) -> None:
        self._lab, self._server, self._opened = lab, server, opened
        self._tokens: dict[str, str] = {}

    def token(self, name: str) -> str:
        if name not in self._tokens:
            scopes = (Scope.ADMIN,) if name == "root" else WORK
            group = "vision" if name.startswith("vision") else ""
            self._tokens[name] = self._lab.add_token(name, *scopes, group=group)
            self._server.running.access.look()
        return self._tokens[name]

    def __call__(self, name: str) -> Client:
        address = f"grpcs://{self._server.address}"
        client = Client(address, token=self.token(name), ca=self._lab.ca)
        return self._opened.enter_context(client)

    def send(self, name: str, *messages: pb.UploadWeightsRequest) -> list[pb.UploadWeightsResponse]:
        """Return all replies to an upload in plain messages."""
        with self._lab.channel(self._server.address) as channel:
            method = "/thingsvision.v1.ModelService/UploadWeights"
            call = channel.stream_stream(method)(
                (one.SerializeToString() for one in messages),
                metadata=bearer(self.token(name)),
                timeout=60,
            )
            found = []
            with suppress(grpc.RpcError):  # too few bytes are an error, after the first reply
                # Each by itself: what came before an error counts.
                found.extend(pb.UploadWeightsResponse.FromString(one) for one in call)
            return found


@pytest.fixture(scope="module")
def people(lab: Lab, lab_server: TestServer) -> Iterator[People]:
    with ExitStack() as opened:
        yield People(lab, lab_server, opened)


def header(content: bytes, **more: object) -> pb.UploadWeightsRequest:
    fields = {"sha256": digest(content), "size_bytes": len(content)} | more
    return pb.UploadWeightsRequest(header=pb.UploadWeightsHeader(**fields))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ThingsvisionError) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


def owners(client: Client, sha256: str) -> list[str]:
    return [str(one.ownership) for one in client.uploads() if one.sha256 == sha256]


def test_anothers_upload_is_as_if_it_were_not_there(people: People, tmp_path: Path) -> None:
    content, nowhere = weights(0.01, seed=101), "0" * 64
    ada, eve = people("ada"), people("eve")
    sha256 = ada.upload_weights(write(tmp_path / "mine.safetensors", content))
    assert owners(ada, sha256) == ["ada"]
    assert owners(eve, sha256) == []
    for call in (
        eve.delete_upload,
        lambda one: eve.load(f"{MODEL}@sha256:{one}"),
        lambda one: eve.unload(f"{MODEL}@sha256:{one}"),
        lambda one: eve.pin(f"{MODEL}@sha256:{one}"),
        lambda one: eve.modules(f"{MODEL}@sha256:{one}"),
        lambda one: eve.modules(f"own/{one}"),
        lambda one: eve.share(one),
    ):
        assert error_of(lambda call=call: call(sha256)) == error_of(  # type: ignore[misc]
            lambda call=call: call(nowhere)  # type: ignore[misc]
        ).replace(nowhere, sha256)
    assert ada.delete_upload(sha256) == len(content)


def test_only_who_has_sent_all_bytes_is_told_that_they_are_there(
    people: People, tmp_path: Path
) -> None:
    content = weights(2.5, seed=102)
    sha256, path = digest(content), write(tmp_path / "big.safetensors", content)
    ada, eve, root = people("ada"), people("eve"), people("root")
    ada.upload_weights(path)
    # What was never there gets the same answer: nothing has arrived.
    for claimed in (content, b"x" * len(content)):
        (reply,) = people.send("eve", header(claimed))
        assert reply == pb.UploadWeightsResponse()
    # Nor does a part of it: eve's own part counts, not ada's.
    part = pb.UploadWeightsRequest(chunk=content[:MIB])
    assert people.send("eve", header(content), part) == [pb.UploadWeightsResponse()]
    assert people.send("eve", header(content))[0].received_bytes == MIB
    assert eve.upload_weights(path) == sha256
    (reply,) = people.send("eve", header(content))
    assert (reply.complete, reply.upload.name) == (True, "big.safetensors")
    # Both own it, and neither learns of the other.
    assert (owners(ada, sha256), owners(eve, sha256)) == (["ada"], ["eve"])
    assert owners(root, sha256) == ["ada, eve"]
    assert ada.delete_upload(sha256) == 0
    assert owners(ada, sha256) == []
    assert owners(eve, sha256) == ["eve"]
    assert eve.delete_upload(sha256) == len(content)
    assert owners(root, sha256) == []
    (reply,) = people.send("ada", header(content))
    assert reply == pb.UploadWeightsResponse()


def test_what_is_shared_can_be_used_and_not_deleted(people: People, tmp_path: Path) -> None:
    content = weights(0.01, seed=103)
    sha256 = digest(content)
    path = write(tmp_path / "shared.safetensors", content)
    sharer, member, eve = people("vision1"), people("vision2"), people("eve")
    (reply,) = people.send("vision1", header(content, share=True, name="ours"))[:1]
    assert not reply.complete
    people.send(
        "vision1",
        header(content, share=True, name="ours"),
        pb.UploadWeightsRequest(chunk=content),
    )
    assert owners(sharer, sha256) == ["vision1 (shared)"]
    assert owners(member, sha256) == ["vision1 (shared)"]
    assert owners(eve, sha256) == []
    with pytest.raises(PermissionDeniedError, match=r"ours is not yours: vision1 shares it with"):
        member.delete_upload(sha256)
    with pytest.raises(ThingsvisionError, match="does not fit"):
        member.load(f"{MODEL}@sha256:{sha256}")
    # Whom it is shared with need not send it, to keep it when the sharer goes.
    (reply,) = people.send("vision2", header(content, name="copy"))
    assert (reply.complete, reply.upload.name) == (True, "copy")
    assert owners(member, sha256) == ["vision2, vision1 (shared)"] or owners(member, sha256) == [
        "vision2, vision1"
    ]
    assert sharer.delete_upload(sha256) == 0
    assert owners(member, sha256) == ["vision2"]
    assert member.upload_weights(path) == sha256
    assert people("root").delete_upload(sha256) == len(content)  # an admin, for all
    with pytest.raises(UnknownWeightsError):
        member.delete_upload(sha256)


def reference(photos: list[Path], declared: dict[str, list[float]]) -> np.ndarray:
    """Return what PyTorch computes of photographs, prepared as declared."""
    pixels = inputs(photos) * channels(DECLARED["std"]) + channels(DECLARED["mean"])
    batch = (pixels - channels(declared["mean"])) / channels(declared["std"])
    return hooked(network(7), batch, ["head"])["head"]


def channels(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


def test_each_owner_has_a_preprocessing_of_their_own(
    people: People, tmp_path: Path, photos: list[Path]
) -> None:
    path = onnx_file(network(7), tmp_path / "net.onnx")
    ada, eve, bob = people("ada"), people("eve"), people("bob")
    other = DECLARED | {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    declared = {"ada": DECLARED, "eve": other}
    model = ada.upload_model(path, DECLARED)
    assert eve.upload_model(path, other) == model
    sha256 = digest(path.read_bytes())

    def features(client: Client) -> np.ndarray:
        return client.extract(model, photos[:2], "logits").features["logits"]

    for client, name in ((ada, "ada"), (eve, "eve"), (ada, "ada")):
        assert_close(features(client), reference(photos[:2], declared[name]))
    with pytest.raises(InvalidRequestError, match="was already uploaded with mean"):
        ada.upload_model(path, other)
    with pytest.raises(UnknownModelError):
        features(bob)
    ada.share(sha256)
    assert_close(features(bob), reference(photos[:2], DECLARED))
    eve.share(sha256)  # now two declarations are shared with bob
    with pytest.raises(InvalidRequestError, match="shared with you by ada and eve, who declare"):
        features(bob)
    bob.unload(model)
    for client in (ada, eve):
        client.delete_upload(sha256)
    with pytest.raises(UnknownModelError):
        features(ada)


def test_a_network_in_use_goes_on_when_another_sends_it_too(
    people: People, tmp_path: Path, photos: list[Path]
) -> None:
    path, copy = onnx_file(network(9), tmp_path / "net.onnx"), tmp_path / "copy.onnx"
    shutil.copy(path, copy)
    ada, eve = people("ada"), people("eve")
    model = ada.upload_model(path, DECLARED)
    before = ada.extract(model, photos[:2], "logits").features["logits"]
    assert eve.upload_model(copy, DECLARED) == model
    for client in (eve, ada):
        found = client.extract(model, photos[:2], "logits").features["logits"]
        assert_close(found, before)
    eve.unload(model)
    for client in (ada, eve):
        client.delete_upload(model.name)
