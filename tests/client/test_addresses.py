"""Addresses of servers: what is taken, and what is refused because gRPC would misread it."""

from __future__ import annotations

import pytest

from thingsvision_client import Client, connect
from thingsvision_client.errors import InvalidRequestError, NoServerError, UnavailableError
from thingsvision_client.rpc.address import check_address, host_of


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("localhost:50051", "localhost"),
        ("gpu-2.lab.example.org:1", "gpu-2.lab.example.org"),
        ("my_server:65535", "my_server"),
        ("10.0.0.7:50051", "10.0.0.7"),
        ("[::1]:50051", "::1"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("dns:///gpu:50051", "gpu"),
        ("dns://10.0.0.2/gpu:50051", "gpu"),
        ("ipv4:10.0.0.7:50051", "10.0.0.7"),
        ("ipv6:[::1]:50051", "::1"),
        ("unix:/run/thingsvision.sock", ""),
        ("unix:///run/thingsvision.sock", ""),
        ("unix:server.sock", ""),
        ("unix-abstract:thingsvision", ""),
    ],
)
def test_an_address_is_taken_as_it_is(address: str, host: str) -> None:
    assert check_address(address) == address
    assert host_of(address) == host


def test_blanks_around_an_address_are_left_out() -> None:
    assert check_address(" gpu:50051\n") == "gpu:50051"


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("gpu", "gpu:50051"),
        ("gpu-2.lab.example.org", "gpu-2.lab.example.org:50051"),
        ("10.0.0.7", "10.0.0.7:50051"),
        ("[::1]", "[::1]:50051"),
        ("dns:///gpu", "dns:///gpu:50051"),
        ("http://gpu:50052", "gpu:50052"),
        ("http://gpu:50052/", "gpu:50052"),
        (" HTTP://gpu ", "gpu:50051"),
        ("grpc://gpu", "gpu:50051"),
        ("grpc://[::1]:7", "[::1]:7"),
        ("tcp://10.0.0.7:1", "10.0.0.7:1"),
        ("grpcs://gpu", "grpcs://gpu:50051"),
        (" https://gpu:443/ ", "grpcs://gpu:443"),
        ("GRPCS://[::1]", "grpcs://[::1]:50051"),
    ],
)
def test_a_url_or_a_host_without_a_port_becomes_an_address(address: str, taken: str) -> None:
    assert check_address(address) == taken
    with Client(address) as client:
        assert client.server == taken


WHAT_FOLLOWS = r"leave out what follows the port"
A_PORT = r"a port is a number from 1 to 65,535"
NO_HOST = r"can't be the name of a host"
BRACKETS = r"an IPv6 address needs brackets"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("gpu:65536", A_PORT),
        ("127.0.0.1:99999", A_PORT),
        ("[::1]:99999", A_PORT),
        ("dns:///gpu:99999", A_PORT),
        ("gpu:0", A_PORT),
        ("gpu:-1", A_PORT),
        ("gpu:+80", A_PORT),
        ("gpu:", A_PORT),
        ("gpu:http", A_PORT),
        ("gpu:50051/", WHAT_FOLLOWS),
        ("gpu:50051/v1", WHAT_FOLLOWS),
        ("http://gpu:50051/v1", WHAT_FOLLOWS),
        ("http://gpu/v1", WHAT_FOLLOWS),
        ("gpu:5005l", A_PORT),
        ("gpu:\N{ARABIC-INDIC DIGIT FIVE}", A_PORT),
        ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}ro", "it has no port"),
        ("my gpu", "it has no port"),
        ("50051", "it has no host: 'localhost:50051'"),
        (":50051", "it has no host"),
        ("my gpu:50051", NO_HOST),
        ("gpu :50051", NO_HOST),
        ("user@gpu:50051", NO_HOST),
        ("[gpu]:50051", NO_HOST),
        ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}ro:50051", NO_HOST),
        ("::1:50051", BRACKETS),
        ("2001:db8::7:50051", BRACKETS),
        ("gpu:50051:50052", NO_HOST),
        ("https://gpu:50051/v1", WHAT_FOLLOWS),
        ("grpcs://gpu:50051/v1", WHAT_FOLLOWS),
        ("grpcs://gpu:0", A_PORT),
        ("grpcs://unix:/run/tv.sock", "the file of a socket is unix:PATH"),
        ("grpcs://", "it is empty"),
        ("ftp://gpu:50051", "leave out 'ftp://'"),
        ("http://", "it is empty"),
        ("unix:", "is unix:PATH"),
        ("unix://server.sock", "is unix:PATH"),
        ("   ", "it is empty"),
    ],
)
def test_an_address_that_grpc_would_misread_is_refused(address: object, why: str) -> None:
    for use in (check_address, Client, connect):
        with pytest.raises(NoServerError, match=why) as caught:
            use(address)  # type: ignore[operator]
        assert repr(address) in str(caught.value)
        assert "THINGSVISION_SERVER=host:port" in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    with pytest.raises(InvalidRequestError, match="`timeout` must be seconds above 0, or None"):
        Client("localhost:1", timeout=timeout)


def test_a_host_without_an_address_is_told_in_few_words() -> None:
    with pytest.raises(UnavailableError) as raised:
        Client("no-such-host.invalid:1", timeout=20).models("torchvision", "alexnet")
    assert "[field" not in str(raised.value)
    assert "answers at no-such-host.invalid:1 (" in str(raised.value)
