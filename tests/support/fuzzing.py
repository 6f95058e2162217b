"""Mutations of real files and messages, and what may come of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import pytest

hypothesis = pytest.importorskip("hypothesis", reason="is of the extra dev: scripts/environment")
st = pytest.importorskip("hypothesis.strategies")

Fuzz = Callable[[str, Any, int, Callable[[bytes], Any]], None]
"""Gives mutations to a function: its name, the contents that change (or a strategy that makes
them), the number of inputs, the function."""

GROWTH_BYTES = 500_000_000

_EDITS = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
    ),
    max_size=6,
)
_CUTS = st.none() | st.tuples(st.integers(0, 2**16), st.integers(0, 64))


def mutations(contents: Sequence[bytes]) -> Any:
    """Return contents with some bytes changed, and maybe some left out or repeated."""
    return st.builds(_mutate, st.sampled_from(contents), _EDITS, _CUTS, st.booleans())


def _mutate(
    content: bytes,
    edits: list[tuple[int, int]],
    cut: tuple[int, int] | None,
    is_repeated: bool,
) -> bytes:
    changed = bytearray(content)
    for place, value in edits if content else []:
        changed[place % len(changed)] = value
    if cut is not None and changed:
        start = cut[0] % len(changed)
        stop = start + cut[1]
        changed[start:stop] = changed[start:stop] * 2 if is_repeated else b""
    return bytes(changed)


_ODD = [
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "a" * 300, "\0", "../x", "__import__", "s0 // 0"),
    *([], {}, [[]], [None], [-1, 2**40], {"": None}, {"class_name": "Dense"}, {"as_int": 2**63}),
]
"""Values that no exporter writes at most places."""

_CHANGES = st.lists(
    st.tuples(
        st.integers(0, 2**16),
        st.sampled_from(["replace", "drop", "repeat", "exchange"]),
        st.sampled_from(_ODD),
    ),
    min_size=1,
    max_size=3,
)


def json_mutations(documents: Sequence[Any]) -> Any:
    """Return JSON of documents of which some values are others, left out, or repeated."""
    return st.builds(_change, st.sampled_from(documents), _CHANGES)


def _change(document: Any, changes: list[tuple[int, str, Any]]) -> bytes:
    changed = copy.deepcopy(document)
    for number, kind, value in changes:
        places = list(_places(changed))
        if not places:
            break
        parent, key = places[number % len(places)]
        other_parent, other_key = places[number // 2 % len(places)]
        if kind == "replace":
            parent[key] = copy.deepcopy(value)
        elif kind == "exchange":
            parent[key] = copy.deepcopy(other_parent[other_key])
        elif kind == "drop":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[f"{key}x"] = copy.deepcopy(parent[key])
    return json.dumps(changed).encode()


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each value of a document as what it is in, and its key or number there."""
    entries = part.items() if isinstance(part, dict) else enumerate(part)
    for key, entry in list(entries):
        yield part, key
        if isinstance(entry, dict | list):
            yield from _places(entry)


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Try mutations, the same each time unless `--fuzz` asks for more than usual."""
    times: int = request.config.getoption("fuzz")

    def run(name: str, contents: Any, count: int, check: Callable[[bytes], Any]) -> None:
        process, tried = psutil.Process(), [0]
        inputs = mutations(contents) if isinstance(contents, list) else contents
        before = most = process.memory_info().rss

        @hypothesis.settings(
            max_examples=count * times,
            deadline=None,
            database=None,
            derandomize=times == 1,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(inputs)
        def try_one(content: bytes) -> None:
            nonlocal most
            check(content)
            tried[0] += 1
            if tried[0] % 16 == 0:
                most = max(most, process.memory_info().rss)

        try_one()
        print(
            f"\n{name}: {tried[0]:,} inputs, memory grew by {(most - before) / 1e6:.0f} MB at most"
        )
        assert tried[0] >= count // 2
        assert most - before < GROWTH_BYTES

    return run
