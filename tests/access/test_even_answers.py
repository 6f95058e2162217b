"""What is not there is answered as late as what is another's; who owns it waits for nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from support.lab import Lab, bearer
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.errors import ModelInUseError, NotFoundError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.person import Person, person_of_peer
from thingsvision_server.access.scopes import Scope
from thingsvision_server.errors import UnknownModelError, UnknownWeightsError
from thingsvision_server.rpc import even_answers

WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD)
STEP_SECONDS = 0.5
DIGEST = "0f" * 32

Open = Callable[..., Client]


@pytest.fixture
def open_client(lab: Lab, lab_server: TestServer) -> Iterator[Open]:
    with ExitStack() as opened:

        def make(name: str, *scopes: Scope) -> Client:
            token = lab.add_token(name, *scopes)
            lab_server.running.access.look()
            address = f"grpcs://{lab_server.address}"
            return opened.enter_context(Client(address, token=token, ca=lab.ca))

        yield make


def write_weights(folder: Path, number: int) -> Path:
    path = folder / f"{number}.safetensors"
    path.write_bytes(save({"weight": np.full(5, number, np.float32)}))
    return path


def test_only_a_digest_tells_of_others_and_only_to_people_who_may_not_see_them() -> None:
    eve, root = Person("eve", frozenset(WORK)), Person("root", frozenset({Scope.ADMIN}))
    digest, name = UnknownWeightsError(f"no weights {DIGEST}"), UnknownModelError("no alexnot")
    assert even_answers.may_tell(digest, eve)
    for error, person in (
        (name, eve),
        (ValueError(DIGEST), eve),
        (digest, root),
        (digest, None),
        (digest, person_of_peer("ipv4:127.0.0.1")),
    ):
        assert not even_answers.may_tell(error, person)


def test_a_stranger_hears_of_what_is_there_and_what_is_not_at_the_same_moment(
    open_client: Open,
    lab: Lab,
    lab_server: TestServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time itself is only bounded from below: the answer is given at a step."""
    kept = open_client("even-ada", *WORK).upload_weights(write_weights(tmp_path, 1))
    eve = open_client("even-eve", *WORK)
    token = lab.add_token("even-eve", *WORK)
    lab_server.running.access.look()
    monkeypatch.setattr(even_answers, "_STEP_SECONDS", STEP_SECONDS)

    def announce(digest: str) -> None:
        header = pb.UploadWeightsHeader(sha256=digest, size_bytes=100)
        with lab.channel(lab_server.address) as channel:
            call = channel.stream_stream("/thingsvision.v1.ModelService/UploadWeights")(
                iter([pb.UploadWeightsRequest(header=header).SerializeToString()]),
                metadata=bearer(token),
                timeout=60,
            )
            assert pb.UploadWeightsResponse.FromString(next(call)).received_bytes == 0
            call.cancel()

    def refused(call: Callable[[str], Any], digest: str) -> None:
        with pytest.raises(NotFoundError, match=digest):
            call(digest)

    asks: list[Callable[[str], None]] = [
        announce,
        *(
            lambda digest, call=call: refused(call, digest)
            for call in (eve.share, eve.delete_upload, eve.delete_pca)
        ),
    ]
    for ask in asks:
        for digest in (kept, DIGEST):
            began = time.monotonic()
            ask(digest)
            assert time.monotonic() - began >= 0.98 * STEP_SECONDS


def test_a_file_in_use_is_refused_in_words_that_its_owner_can_follow(
    open_client: Open, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models import squeezenet1_1

    torch.manual_seed(77)
    path = tmp_path / "own.safetensors"
    save_file(squeezenet1_1().state_dict(), path)
    digest = sha256(path.read_bytes()).hexdigest()
    model = f"torchvision/squeezenet1_1@sha256:{digest}"
    ada, bob = open_client("use-ada", *WORK), open_client("use-bob", *WORK, Scope.CONTROL)
    assert ada.upload_weights(path, share=True) == digest
    bob.load(model)
    with pytest.raises(ModelInUseError) as refused:
        ada.delete_upload(digest)
    assert str(refused.value).startswith(
        f"{digest} is in use: a model of it is in memory, and to unload it needs the scope "
        "`control`, which you don't have"
    )
    assert "use-bob" not in str(refused.value)
    with pytest.raises(Exception, match="is not yours: use-ada shares it with you"):
        bob.delete_upload(digest)
    again = open_client("use-ada", *WORK, Scope.CONTROL)
    with pytest.raises(ModelInUseError, match=f"in use: unload {model} from memory first"):
        again.delete_upload(digest)
    again.unload(model)
    assert ada.delete_upload(digest) == path.stat().st_size
