"""Reductions that cost more than the features themselves."""

from __future__ import annotations

import threading

import grpc
import pytest

from support.stock_calls import extraction, image, spec, stock_calls
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.values.reductions import Reduction
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .registry import MODEL, MODULE, Target, attack


@attack()
def a_huge_projection(target: Target) -> None:
    """Ask for a random projection of 774,400 values to as many."""
    with Client(target.address) as client, pytest.raises(InvalidRequestError) as caught:
        client.extract(MODEL, [target.photos[0]], MODULE, reduction=Reduction(components=774_400))
    assert "must have at most" in str(caught.value)


@attack()
def projections_that_nobody_waits_for(target: Target) -> None:
    """Ask for the largest projections that are allowed, and leave after a second."""
    photo = target.photos[0].read_bytes()
    with stock_calls(target.address) as stock:
        calls = []
        for seed in range(4):
            projection = pb.RandomProjection(component_count=18_000, seed=seed)
            header = extraction(MODULE, reduction=pb.Reduction(projection=projection))
            calls.append(stock.start("Extract", [header, image(0, "a", photo)]))
        threading.Event().wait(1)
        for call in calls:
            call.cancel()
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}


@attack()
def millions_of_units(target: Target) -> None:
    """Ask for a million units of a module that has fewer, and for more than a message may name."""
    for count in (1_000_000, 20_000_000):
        header = extraction(MODULE, model=spec(), reduction=pb.Reduction(units=[0] * count))
        with stock_calls(target.address) as stock:
            refusal = stock.refusal("Extract", [header])
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, refusal
