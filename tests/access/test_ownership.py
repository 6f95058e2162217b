"""Every RPC that names something stored, by its owner, a sharee, a stranger and an admin, by TLS.

A stranger hears the same words as of what is not there. A field of a request that may name
something needs a row here; so does a new RPC with such a field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor

from support.lab import Lab, bearer
from support.owned_calls import PASSES, Spec, header_of, own_spec, sent, weights_spec
from support.owned_things import People, Thing, people_of
from support.serving import TestServer
from support.stock_calls import spec
from support.tiny_pcas import MODULE
from thingsvision_proto.v1 import thingsvision_pb2 as pb

NAMING = {
    "ModelSpec.name": ("network",),
    "ModelSpec.weights_sha256": ("weights",),
    "Image.kept_sha256": ("image",),
    "Reduction.pca": ("PCA",),
    "FindImagesRequest.sha256": ("image",),
    "UploadWeightsHeader.sha256": ("weights", "network"),
    "DeleteUploadRequest.sha256": ("weights", "network"),
    "DeletePCARequest.pca": ("PCA",),
    "DeleteCachedImagesRequest.sha256": ("image",),
    "ShareRequest.sha256": ("weights", "PCA", "image"),
}
"""Fields of requests that name what is stored, and what that is."""

OTHERS = {
    *(
        "ArrowFrame.arrow_ipc",
        "DeleteCachedImagesRequest.owner",
        "ExtractHeader.modules",
        "FitPCAHeader.name",
        "Image.encoded",
    ),
    *("Image.name", "Image.server_path", "Image.tensor", "Image.text", "ListImagesRequest.folder"),
    *("ListModelsRequest.name_glob", "ListModelsRequest.source", "ModelSpec.pretrained_tag"),
    *("ModelSpec.source", "ModelSpec.weights_part", "MoveOwnerRequest.new"),
    *("MoveOwnerRequest.old", "Preprocessing.channel_order", "Preprocessing.description"),
    *("Preprocessing.interpolation", "Preprocessing.owner", "Preprocessing.value_range"),
    *("PreprocessingOverrides.interpolation", "PreprocessingStep.element_type"),
    *("PreprocessingStep.interpolation", "PreprocessingStep.kind"),
    *("PreprocessingStep.padding_mode", "UploadWeightsHeader.name", "UploadWeightsRequest.chunk"),
}
"""Fields of texts and bytes that name nothing that people own."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended, and what it told; without the digest, as the caller knows it."""

    code: grpc.StatusCode
    said: str = ""
    told: Any = None


@dataclass(frozen=True)
class Row:
    """How an RPC names a thing."""

    requests: Callable[[Thing, list[bytes]], Sequence[Any]]
    """The messages, given the thing and files of images."""
    told: Callable[[list[Any]], Any] = lambda replies: None
    """What replies tell about the thing."""
    granted: Any = None
    """What they tell who may use it."""
    sharee_may: bool = True
    refused: bool = True
    """Whether a sharee who may not is refused; else it is as if nothing were there."""
    ends: bool = False
    """Whether the thing is gone afterwards, or is shared otherwise."""
    loads: bool = False
    """Whether the model must be in memory before."""
    never: str = ""
    """What everybody hears."""


def of_model(method: str, model: Spec, module: str) -> Row:
    if method in PASSES:
        return Row(
            lambda thing, files: PASSES[method](header_of(model(thing), module), sent(files))
        )
    request = {
        "ListModules": pb.ListModulesRequest,
        "LoadModel": pb.LoadModelRequest,
        "UnloadModel": pb.UnloadModelRequest,
        "PinModel": partial(pb.PinModelRequest, pinned=False),
    }[method]
    loads = method in ("UnloadModel", "PinModel")
    return Row(lambda thing, _: [request(model=model(thing))], loads=loads)


def of_image(method: str) -> Row:
    def requests(thing: Thing, files: list[bytes]) -> Sequence[Any]:
        kept = pb.Image(index=0, name="kept", kept_sha256=bytes.fromhex(thing.sha256))
        others = sent(files)[1:]  # a PCA needs three
        return PASSES[method](header_of(spec(), "features.3"), [kept, *others])

    return Row(requests)


def of_pca(method: str) -> Row:
    def requests(thing: Thing, files: list[bytes]) -> Sequence[Any]:
        reduction = pb.Reduction(pca=thing.sha256)
        header = header_of(spec("squeezenet1_0"), MODULE, reduction=reduction)
        return PASSES[method](header, sent(files))

    never = "must be fitted on features, not on scores" if method == "FitPCA" else ""
    return Row(requests, never=never)


def upload_header(thing: Thing, _: list[bytes]) -> Sequence[Any]:
    header = pb.UploadWeightsHeader(sha256=thing.sha256, size_bytes=thing.size_bytes)
    return [pb.UploadWeightsRequest(header=header)]


MODEL_RPCS = [
    *("ListModules", "Extract", "Preprocess", "ComputeRDM", "FitPCA"),
    *("LoadModel", "PinModel", "UnloadModel"),
]
ROWS: dict[tuple[str, str], Row] = {
    **{(rpc, "ModelSpec.name"): of_model(rpc, own_spec, "logits") for rpc in MODEL_RPCS},
    **{
        (rpc, "ModelSpec.weights_sha256"): of_model(rpc, weights_spec, "features.3")
        for rpc in MODEL_RPCS
    },
    **{(rpc, "Image.kept_sha256"): of_image(rpc) for rpc in PASSES},
    **{(rpc, "Reduction.pca"): of_pca(rpc) for rpc in ("Extract", "ComputeRDM", "FitPCA")},
    ("FindImages", "FindImagesRequest.sha256"): Row(
        lambda thing, _: [pb.FindImagesRequest(sha256=[bytes.fromhex(thing.sha256)])],
        told=lambda replies: list(replies[0].missing),
        granted=[],
    ),
    # Nobody hears that the bytes are here but who has sent them, or may use them.
    ("UploadWeights", "UploadWeightsHeader.sha256"): Row(
        upload_header,
        told=lambda replies: [(one.received_bytes > 0, one.complete) for one in replies],
        granted=[(True, True)],
    ),
    ("DeleteUpload", "DeleteUploadRequest.sha256"): Row(
        lambda thing, _: [pb.DeleteUploadRequest(sha256=thing.sha256)], sharee_may=False, ends=True
    ),
    ("DeletePCA", "DeletePCARequest.pca"): Row(
        lambda thing, _: [pb.DeletePCARequest(pca=thing.sha256)], sharee_may=False, ends=True
    ),
    ("DeleteCachedImages", "DeleteCachedImagesRequest.sha256"): Row(
        lambda thing, _: [pb.DeleteCachedImagesRequest(sha256=[bytes.fromhex(thing.sha256)])],
        told=lambda replies: replies[0].image_count,
        granted=1,
        sharee_may=False,
        refused=False,
        ends=True,
    ),
    ("Share", "ShareRequest.sha256"): Row(
        lambda thing, _: [pb.ShareRequest(sha256=thing.sha256, shared=False)],
        sharee_may=False,
        ends=True,
    ),
}
CASES = [(*key, kind) for key in ROWS for kind in NAMING[key[1]]]


def leaves(message: Descriptor, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the fields of texts and bytes in a message, and in the messages in it."""
    for one in message.fields:
        if one.message_type is not None and one.message_type.full_name not in above:
            yield from leaves(one.message_type, (*above, message.full_name))
        elif one.type in (one.TYPE_STRING, one.TYPE_BYTES):
            yield one.full_name.removeprefix("thingsvision.v1.")


def test_every_field_that_names_something_has_its_rows() -> None:
    found = {
        (rpc.name, name)
        for service in pb.DESCRIPTOR.services_by_name.values()
        for rpc in service.methods
        for name in leaves(rpc.input_type)
    }
    unknown = {name for _, name in found} - NAMING.keys() - OTHERS
    assert not unknown, "say in NAMING or OTHERS whether they name something that people own"
    assert {(rpc, name) for rpc, name in found if name in NAMING} == ROWS.keys()


LISTS = {
    "ListModels": pb.ListModelsRequest(source="own"),
    "ListUploads": pb.ListUploadsRequest(),
    "ListPCAs": pb.ListPCAsRequest(),
    "ListCachedImages": pb.ListCachedImagesRequest(),
    "GetResidency": pb.GetResidencyRequest(),
}
"""RPCs that list what is stored."""

NO_LISTS = {
    "MoveOwner": "tells numbers, and only admins",
    "ListImages": "tells files of the operator's, by --image-root",
}


def test_every_rpc_names_something_or_lists_or_does_neither() -> None:
    rpcs = {one.name for all_ in pb.DESCRIPTOR.services_by_name.values() for one in all_.methods}
    assert rpcs == {rpc for rpc, _ in ROWS} | LISTS.keys() | NO_LISTS.keys()


@pytest.fixture(scope="module")
def people(
    lab: Lab, lab_server: TestServer, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> Iterator[People]:
    with people_of(lab, lab_server, tmp_path_factory.mktemp("things"), photos) as found:
        yield found


@pytest.fixture(scope="module")
def channel(lab: Lab, lab_server: TestServer) -> Iterator[grpc.Channel]:
    with lab.channel(lab_server.address) as found:
        yield found


@dataclass
class Shelf:
    """Things of each kind, private and shared; what a row ends is new each time."""

    people: People
    kept: dict[tuple[str, bool], Thing] = field(default_factory=dict)

    def take(self, kind: str, *, shared: bool, new: bool) -> Thing:
        if new:
            return self.people.leave(kind, shared=shared)
        if (kind, shared) not in self.kept:
            self.kept[kind, shared] = self.people.leave(kind, shared=shared)
        return self.kept[kind, shared]


@pytest.fixture(scope="module")
def shelf(people: People) -> Shelf:
    return Shelf(people)


@dataclass(frozen=True)
class Asker:
    """Calls an RPC as one of the people."""

    channel: grpc.Channel
    rpc: str
    row: Row
    people: People

    def __call__(self, person: str, thing: Thing) -> Outcome:
        if self.row.loads:
            self._load(thing)
        code, said, replies = self.replies(person, thing)
        told = self.row.told(replies) if replies else None
        return Outcome(code, said.replace(thing.sha256, "DIGEST"), told)

    def replies(self, person: str, thing: Thing) -> tuple[grpc.StatusCode, str, list[Any]]:
        """Return how the call ends, what it says, and all replies."""
        service, method = next(
            (service, service.methods_by_name[self.rpc])
            for service in pb.DESCRIPTOR.services_by_name.values()
            if self.rpc in service.methods_by_name
        )
        reply = getattr(pb, method.output_type.name)
        call = self.channel.stream_stream(
            f"/{service.full_name}/{self.rpc}",
            lambda message: message.SerializeToString(),
            reply.FromString,
        )
        files = [path.read_bytes() for path in self.people.photos[:3]]
        token = bearer(self.people.tokens[person])
        replies: list[Any] = []
        code, said = grpc.StatusCode.OK, ""
        try:
            replies.extend(call(iter(self.row.requests(thing, files)), metadata=token, timeout=120))
        except grpc.RpcError as error:
            code, said = error.code(), error.details()
        return code, said, replies

    def _load(self, thing: Thing) -> None:
        model = self.row.requests(thing, [])[0].model
        name = f"own/{thing.sha256}" if model.source == "own" else None
        known = {one.sha256 for one in self.people.owner.uploads()}
        if thing.sha256 in known:
            self.people.owner.load(name or f"torchvision/squeezenet1_1@sha256:{thing.sha256}")


@pytest.mark.parametrize(("rpc", "name", "kind"), CASES)
def test_who_may_name_it(
    rpc: str, name: str, kind: str, channel: grpc.Channel, people: People, shelf: Shelf
) -> None:
    row = ROWS[rpc, name]
    ask = Asker(channel, rpc, row, people)
    private = shelf.take(kind, shared=False, new=row.ends)
    shared = shelf.take(kind, shared=True, new=row.ends)
    granted = Outcome(grpc.StatusCode.OK, "", row.granted)
    if row.never:
        granted = ask("owner", private)
        assert row.never in granted.said
    for person, thing in (("stranger", private), ("sharee", private), ("stranger", shared)):
        unknown = ask(person, thing.missing())
        assert ask(person, thing) == unknown, person
        assert row.never or unknown != granted
    if row.sharee_may:
        assert ask("sharee", shared) == granted
    elif not row.refused:
        assert ask("sharee", shared) == ask("sharee", shared.missing())
    else:
        refused = ask("sharee", shared)
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        assert "the-owner" in refused.said
    assert ask("owner", private) == granted
    assert ask("admin", shared) == granted
    if row.ends:
        assert ask("sharee", shared) == ask("sharee", shared.missing())


@pytest.mark.parametrize("rpc", LISTS)
def test_no_list_tells_of_what_is_not_shared(
    rpc: str, channel: grpc.Channel, people: People, shelf: Shelf
) -> None:
    kinds = ("weights", "network", "PCA", "image")
    private = {kind: shelf.take(kind, shared=False, new=False) for kind in kinds}
    shared = {kind: shelf.take(kind, shared=True, new=False) for kind in kinds}
    for things in (private, shared):
        people.owner.load(f"own/{things['network'].sha256}")
    ask = Asker(channel, rpc, Row(lambda thing, files: [LISTS[rpc]]), people)

    def told(person: str) -> set[Thing]:
        code, said, replies = ask.replies(person, private["PCA"])
        assert code is grpc.StatusCode.OK, said
        listed = b"".join(one.SerializeToString() for one in replies)
        every = {*private.values(), *shared.values()}
        return {
            one
            for one in every
            if one.sha256.encode() in listed or bytes.fromhex(one.sha256) in listed
        }

    theirs = told("owner")
    assert theirs or rpc == "ListModels"
    assert theirs <= told("admin")
    assert theirs & set(shared.values()) <= told("sharee") <= set(shared.values())
    assert told("stranger") == set()
