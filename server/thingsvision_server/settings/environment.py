"""Tells what each variable of the environment whose name begins with THINGSVISION_ is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches

PREFIX = "THINGSVISION_"

OTHERS: Mapping[str, str] = {
    "CA": "certificates that the client trusts",
    "CERT": "certificate of the client",
    "CLIENT_COMPLETE": "completion of the client's commands",
    "GPU_DEVICE": "tests of a GPU",
    "GPU_PHOTOGRAPHS": "tests of a GPU",
    "KEY": "key of the client's certificate",
    "PYTHON": "Python of MATLAB",
    "REMEMBER_ORIGINS": "provenance of the client's arrays",
    "SERVER": "address that the client calls",
    "SHARED_DATA": "data of the benchmark and of tests",
    "TOKEN": "token that the client sends",
    "TOKEN_FILE": "file of the token that the client sends",
    "TRACEBACKS": "tracebacks of the client",
    "TRANSFORMS_DIR": "transforms of the client",
    "WRITE_NOTEBOOKS": "tests",
}
"""Variables of the client and of tests, without the prefix, and what they are for."""

_OF_TESTS = "REQUIRE_"
"""What the names of other variables of tests begin with."""

_SERVICE_NAME = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"(\w+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+", re.IGNORECASE)

_EXTRA_WORDS = ("SERVER_", "GRPC_", "SERVICE_")
_CLOSE = 0.8
_CLOSE_PREFIX = 0.85


def is_service_link(name: str, value: str) -> bool:
    """Tell whether Kubernetes set a variable for a service whose name begins with thingsvision.

    `name` is without the prefix. THINGSVISION_PORT is a link if its value is `tcp://10.0.0.1:50051`.
    """
    is_port = _SERVICE_PORT.fullmatch(name) and _SERVICE_URL.fullmatch(value)
    return bool(is_port or _SERVICE_NAME.fullmatch(name))


def own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may be options, by their names in capitals without the prefix.

    An empty variable counts as not set.
    """
    return {
        name: value
        for name, value in _prefixed(environment)
        if value
        and name not in OTHERS
        and not name.startswith(_OF_TESTS)
        and not is_service_link(name, value)
    }


def find_mistakes(environment: Mapping[str, str], options: Collection[str]) -> Iterator[str]:
    """Yield a sentence per variable that is nearly an option's: the user would miss its effect."""
    for name in own_variables(environment):
        if name not in options and (near := _near(name, options)):
            yield f"{PREFIX}{name} is not a variable of the server. Did you mean {near}?"
    for name in environment:
        prefix, suffix = _split(name.upper())
        if prefix != PREFIX and suffix in options and _is_close(prefix, PREFIX):
            yield f"{name} is not a variable of the server. Did you mean {PREFIX}{suffix}?"


def find_unknown(environment: Mapping[str, str], options: Collection[str]) -> list[str]:
    """Return the names of variables that are nothing that is known, and change nothing."""
    return [f"{PREFIX}{name}" for name in own_variables(environment) if name not in options]


def find_service_links(environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables that Kubernetes set, which the server ignores."""
    found = _prefixed(environment)
    return [f"{PREFIX}{name}" for name, value in found if value and is_service_link(name, value)]


def nearest(name: str, valid: Collection[str], cutoff: float = _CLOSE) -> str:
    """Return the most similar of the valid names; empty if none is similar."""
    found = get_close_matches(name, valid, n=1, cutoff=cutoff)
    if found:
        return found[0]
    swapped = [one for one in valid if sorted(one) == sorted(name)]
    if swapped:
        return swapped[0]
    # `weights` for `weights_dir`: the user left a word out, or added a word.
    words = set(re.split("[-_]", name))
    subsets = [one for one in valid if words < set(re.split("[-_]", one))]
    return subsets[0] if len(subsets) == 1 else ""


def _near(name: str, options: Collection[str]) -> str:
    """Return what somebody meant who wrote a variable without its prefix; empty if unclear."""
    if name.startswith("NO_") and name.removeprefix("NO_") in options:
        return f"{PREFIX}{name.removeprefix('NO_')}=false"
    for word in _EXTRA_WORDS:
        if name.startswith(word) and name.removeprefix(word) in options:
            return f"{PREFIX}{name.removeprefix(word)}"
    found = nearest(name.replace("-", "_"), [*options, *OTHERS])
    if not found:
        return ""
    return f"{PREFIX}{found}" if found in options else f"{PREFIX}{found} (the client's)"


def _prefixed(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if name.upper().startswith(PREFIX):
            yield name.upper().removeprefix(PREFIX), value


def _split(name: str) -> tuple[str, str]:
    """Split a name after its first underscore, or before the option if the prefix has two words."""
    for word in ("THINGS_VISION_", "THINGS_VISON_"):
        if name.startswith(word):
            return word, name.removeprefix(word)
    prefix, _, suffix = name.partition("_")
    return f"{prefix}_", suffix


def _is_close(prefix: str, other: str) -> bool:
    return SequenceMatcher(None, prefix, other).ratio() >= _CLOSE_PREFIX
