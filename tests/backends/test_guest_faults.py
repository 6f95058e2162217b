"""Errors in a guest: what a library says of a file is told as such, a mistake of ours is not."""

from __future__ import annotations

import json
import struct

import pytest

from thingsvision_server.backends.children.replies import ChildFault, raise_error
from thingsvision_server.errors import InvalidWeightsError
from thingsvision_server.sources.own import guest_service


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [KeyError("w"), TypeError("not a list"), RuntimeError("CHECK")])
def test_what_a_library_raises_is_about_the_file(error: Exception) -> None:
    with (
        pytest.raises(InvalidWeightsError, match=r"^a file can't be used: \w+Error: ") as found,
        guest_service._refusing("a file"),
    ):
        json.loads("{}", object_hook=lambda _: _raise(error))
    assert found.value.__cause__ is error


def test_a_mistake_of_ours_is_not_about_the_file() -> None:
    service = guest_service.Service()
    with pytest.raises(KeyError) as found, guest_service._refusing("a file"):
        service.load({"device": "cpu", "path": "x"}, [])
    assert guest_service.is_own_fault(found.value)
    assert service.describe_error(found.value) is None


def test_what_bytes_are_not_is_about_the_file() -> None:
    reads = (lambda: struct.unpack("!I", b""), lambda: json.loads("{"), lambda: b"\xff".decode())
    for read in reads:
        with pytest.raises(InvalidWeightsError), guest_service._refusing("a file"):
            read()


def test_a_fault_is_told_with_the_end_of_its_traceback() -> None:
    message = "x" * 100_000 + "NameError: name 'y' is not defined"
    with pytest.raises(ChildFault, match=r"^x{3000,4000}NameError: name 'y' is not defined$"):
        raise_error({"error": "bug", "message": message})
