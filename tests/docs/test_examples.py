"""Public docstrings have their sections, and the example of each runs as it stands."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docstring_sections import code_of, documented_names, sections_of

from support.public_objects import public_objects
from support.serving import TestServer
from thingsvision_client.values.preprocessing import Preprocessing

PUBLIC = public_objects()
EXAMPLES = {name: sections_of(thing).get("Example") for name, thing in PUBLIC.items()}

RETURNED = {
    "library.batch_extraction.BatchExtraction",
    "library.extractor.Extractor",
    "rpc.feature_stream.FeatureStream",
}
"""Classes that users get, but never make: their parameters are not documented."""

RECORDS = (".values.records", ".values.provenance", ".values.pca")
"""Modules of what a server says."""

LONGEST_EXAMPLE = 12
"""Lines of code in an example at most."""


def test_there_are_many_public_names() -> None:
    assert len(PUBLIC) > 100
    assert {"client.Client.extract", "core.rsa.compute_rdm", "paper.model.Model"} <= PUBLIC.keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_has_its_sections(name: str) -> None:
    faults = list(_faults(name, PUBLIC[name]))
    assert not faults, f"{name}: {'; '.join(faults)}"


def _faults(name: str, thing: Any) -> Iterator[str]:
    if not (inspect.getdoc(thing) or "").strip():
        yield "no docstring"
    if _is_error(thing) or _is_record(thing):
        return
    sections = sections_of(thing)
    yield from _faults_of_arguments(name, thing, sections)
    returned = None if inspect.isclass(thing) else inspect.signature(thing).return_annotation
    if returned not in (None, "None") and not {"Returns", "Yields"} & sections.keys():
        yield "no Returns"
    if "Example" not in sections:
        yield "no Example"
    elif (code := code_of(sections["Example"])) is None:
        yield "the Example is not one fenced block of Python"
    elif len(code.splitlines()) > LONGEST_EXAMPLE:
        yield "the Example is too long"


def _faults_of_arguments(name: str, thing: Any, sections: Mapping[str, str]) -> Iterator[str]:
    if name in RETURNED:
        return
    expected = _parameters(thing)
    if dataclasses.is_dataclass(thing) and "Attributes" in sections:
        documented = documented_names(sections["Attributes"])
    else:
        documented = documented_names(sections.get("Args", ""))
    if documented != expected:
        yield f"documents {documented}, but takes {expected}"


def _parameters(thing: Any) -> list[str]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(thing).parameters.values()
    names = [stars.get(one.kind, "") + one.name for one in parameters]
    return [name for name in names if name not in ("self", "cls")]


def _is_error(thing: Any) -> bool:
    """Whether users catch it: an error's example would only raise it."""
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def _is_record(thing: Any) -> bool:
    """Whether it is what a server says, which examples of methods return."""
    is_told = thing is Preprocessing or thing.__module__.endswith(RECORDS)
    return inspect.isclass(thing) and is_told


# ---------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def failures(
    pages_server: TestServer, reader_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """What failed, by name; all examples run in one process, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("examples")
    listing = folder / "examples.json"
    entries = [
        (name, str(_reader(folder / name, reader_images)), code_of(example))
        for name, example in EXAMPLES.items()
        if example is not None
    ]
    listing.write_text(json.dumps(entries), encoding="utf-8")
    environment = os.environ | {
        "THINGSVISION_SERVER": pages_server.address,
        "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).with_name("run_examples.py"), listing],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    found: dict[str, str] = json.loads(listing.with_suffix(".failures").read_text("utf-8"))
    return found


def _reader(folder: Path, images: Path) -> Path:
    """Return a new folder with `photos` and `images`, as readers have them."""
    for name in ("photos", "images"):
        shutil.copytree(images / name, folder / name)
    return folder


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example])
def test_an_example_runs(name: str, failures: Mapping[str, str]) -> None:
    assert name not in failures, failures[name]
