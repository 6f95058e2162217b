"""Every RPC, error and enum value of the contract has its place on both sides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor, MethodDescriptor

from thingsvision_client import errors as client_errors
from thingsvision_client import rpc as client_rpc
from thingsvision_client.rpc import rdms as client_rdms
from thingsvision_client.rpc.status import BY_CODE, BY_REASON
from thingsvision_client.values import reductions
from thingsvision_client.values.options import OPTIONS
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server import errors as server_errors
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat, Precision
from thingsvision_server.engine.reduction import POOLS
from thingsvision_server.errors import ThingsvisionError
from thingsvision_server.rdm.metrics import METRICS
from thingsvision_server.rpc import rdm_reply as comparison
from thingsvision_server.rpc.feature_service import FeatureServicer
from thingsvision_server.rpc.image_service import ImageServicer
from thingsvision_server.rpc.messages import extraction
from thingsvision_server.rpc.messages import models as messages
from thingsvision_server.rpc.messages.compute_options import compute_options
from thingsvision_server.rpc.model_service import ModelServicer
from thingsvision_server.rpc.pca_service import PCAServicer
from thingsvision_server.rpc.sharing_service import SharingServicer
from thingsvision_server.rpc.status import CODES, code_of
from thingsvision_server.sources.base import WeightsState

SERVICERS = {
    "FeatureService": FeatureServicer,
    "ImageService": ImageServicer,
    "ModelService": ModelServicer,
    "PCAService": PCAServicer,
    "SharingService": SharingServicer,
}
RPCS = [rpc for service in pb.DESCRIPTOR.services_by_name.values() for rpc in service.methods]


def family(root: type) -> list[type]:
    return [root, *(kind for child in root.__subclasses__() for kind in family(child))]


SERVER_ERRORS = [k for k in family(ThingsvisionError) if k.__module__ == server_errors.__name__]


def test_every_service_has_a_servicer() -> None:
    assert set(pb.DESCRIPTOR.services_by_name) == set(SERVICERS)


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
def test_every_rpc_is_implemented(rpc: MethodDescriptor) -> None:
    servicer = SERVICERS[rpc.containing_service.name]
    assert rpc.name in vars(servicer), f"{servicer.__name__} lacks {rpc.name}"


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
def test_every_rpc_is_called_by_the_client(rpc: MethodDescriptor) -> None:
    """`test_metadata` sees each of them arrive at a server."""
    folder = Path(str(client_rpc.__file__)).parent
    sources = [path.read_text("utf-8") for path in folder.glob("*.py")]
    assert any(re.search(rf"\.{rpc.name}\b", source) for source in sources)


@pytest.mark.parametrize("error", SERVER_ERRORS[1:], ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_a_class_of_the_client(
    error: type[ThingsvisionError],
) -> None:
    kind = BY_REASON[error.__name__]
    assert kind is getattr(client_errors, error.__name__)
    # An older client, which lacks the class, raises the class of the status: its ancestor.
    assert issubclass(kind, BY_CODE[code_of(error)])


def test_the_root_has_no_status() -> None:
    """A specific class says what is wrong; the root would reach users as a bug."""
    assert ThingsvisionError not in CODES


def test_the_trees_have_the_same_branches() -> None:
    for error in SERVER_ERRORS[1:]:
        (parent,) = error.__bases__
        mirrored = BY_REASON[error.__name__]
        assert parent.__name__ in [base.__name__ for base in mirrored.__mro__]


def values(enum: EnumDescriptor) -> dict[str, int]:
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).strip("_") + "_"
    return {v.name.removeprefix(prefix).lower(): v.number for v in enum.values if v.number}


def test_every_metric_is_known_everywhere() -> None:
    metrics = values(pb.DESCRIPTOR.enum_types_by_name["Metric"])
    assert {comparison.metric_name(number) for number in metrics.values()} == set(METRICS)
    assert all(comparison.metric_name(number) == name for name, number in metrics.items())
    assert metrics == client_rdms.METRICS


def test_every_element_type_is_known_everywhere() -> None:
    types = values(pb.DESCRIPTOR.enum_types_by_name["ElementType"])
    assert all(extraction.element_type(number, types) == name for name, number in types.items())
    assert (
        extraction.element_type(pb.ELEMENT_TYPE_UNSPECIFIED, extraction.FEATURE_DTYPES) == "float32"
    )
    assert types == client_rdms.ELEMENT_TYPES | dict(OPTIONS["dtype"].choices or {})
    assert set(extraction.FEATURE_DTYPES) == set(OPTIONS["dtype"].choices or {})
    assert set(extraction.RDM_DTYPES) == set(client_rdms.ELEMENT_TYPES)


def test_every_precision_format_and_pool_is_known_everywhere() -> None:
    precisions = values(pb.DESCRIPTOR.enum_types_by_name["Precision"])
    assert precisions == OPTIONS["precision"].choices
    assert set(precisions) == {precision.value for precision in Precision}
    formats = values(pb.DESCRIPTOR.enum_types_by_name["MemoryFormat"])
    assert formats == OPTIONS["memory_format"].choices
    assert set(formats) == {memory_format.value for memory_format in MemoryFormat}
    pools = values(pb.DESCRIPTOR.enum_types_by_name["Pool"])
    assert pools == dict(reductions.POOLS)
    assert set(pools) == set(POOLS)


def test_every_option_of_a_pass_is_asked_for_and_told_by_its_name() -> None:
    names = set(ComputeOptions().to_dict())
    assert names <= set(pb.ExtractHeader.DESCRIPTOR.fields_by_name)
    assert names <= set(pb.Provenance.DESCRIPTOR.fields_by_name)
    for precision, number in values(pb.DESCRIPTOR.enum_types_by_name["Precision"]).items():
        options = compute_options(pb.ExtractHeader(precision=number, compiled=True))
        assert options == ComputeOptions(Precision(precision), compiled=True)
        assert ComputeOptions.from_dict(options.to_dict()) == options
    assert compute_options(pb.ExtractHeader()) == ComputeOptions()
    with pytest.raises(
        server_errors.InvalidRequestError, match=r"`precision` must be one of: float32.*got 9"
    ):
        compute_options(pb.ExtractHeader(precision=9))


def test_every_state_of_weights_is_listed() -> None:
    told = {messages._STATES[state] for state in WeightsState}
    assert told == set(values(pb.DESCRIPTOR.enum_types_by_name["WeightsState"]).values())


@pytest.mark.parametrize("value", [pb.METRIC_UNSPECIFIED, 99])
def test_a_metric_that_is_none_is_refused_with_the_valid_ones(value: Any) -> None:
    with pytest.raises(server_errors.InvalidRequestError) as caught:
        comparison.metric_name(value)
    assert all(name in str(caught.value) for name in METRICS)
