"""Options stand in one table: signatures, help, type checkers and requests have all of them."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from thingsvision_client import Client, Reduction, rsa
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.parameters import PARAMETERS
from thingsvision_client.origins import options_to_json
from thingsvision_client.values.options import (
    OPTIONS,
    ComputeArguments,
    ExtractArguments,
    ExtractOptions,
)
from thingsvision_client.values.preprocessing import PreprocessingOverrides
from thingsvision_client.values.provenance import Provenance
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.backends.compute_options import ComputeOptions

SENDING: list[Callable[..., Any]] = [Client.extract, Client.stream]
OTHERS: list[Callable[..., Any]] = [Client.rdm, Client.fit_pca, rsa]
CHOSEN = ExtractOptions(
    batch_size=3,
    token_extraction="avg_pool",
    preprocessing=PreprocessingOverrides(resize=32, crop=False),
    precision="bfloat16",
    deterministic=True,
    reduction=Reduction(pool="max", pool_axes=(0,)),
    memory_format="channels_last",
    compiled=True,
    dtype="float16",
)


def test_arguments_for_type_checkers_are_those_of_the_table() -> None:
    written = {name: one.__forward_arg__ for name, one in ExtractArguments.__annotations__.items()}
    assert written == {field.name: field.type for field in fields(ExtractOptions)}
    assert list(written) == list(OPTIONS)
    assert all(option.help for option in OPTIONS.values())


@pytest.mark.parametrize("function", [*SENDING, *OTHERS], ids=lambda one: one.__qualname__)
def test_signature_and_help_show_names_types_and_defaults(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    text = pydoc.plain(pydoc.render_doc(function))
    for option in OPTIONS.values():
        if option.name not in ComputeArguments.__annotations__ and function in OTHERS:
            continue
        parameter = parameters[option.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert (parameter.annotation, parameter.default) == (option.type, option.default)
        shown = f"{option.name}: {option.type!r} = {option.default!r}"
        assert shown in text or shown.replace("'", "") in text.replace("'", "")
        assert f"{option.name}: {option.help}" in text
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


@pytest.mark.parametrize(
    ("method", "name"),
    [("extract", "precison"), ("stream", "flatten"), ("rdm", "dtyp"), ("fit_pca", "dtype")],
)
def test_an_unknown_name_is_a_type_error(method: str, name: str) -> None:
    needed = {"components": 2} if method == "fit_pca" else {}
    with Client("127.0.0.1:1") as client:
        call = getattr(client, method)
        with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected .* '{name}'"):
            call("torchvision/alexnet", [], "features", **needed, **{name: 1})


def test_options_come_back_from_json_and_stand_in_the_header() -> None:
    assert ExtractOptions.from_json(options_to_json(CHOSEN)) == CHOSEN
    defaults = vars(ExtractOptions())
    of_values = [option.name for option in OPTIONS.values() if option.is_of_values]
    assert all(getattr(CHOSEN, name) != defaults[name] for name in of_values)
    assert set(options_to_json(CHOSEN)) == set(of_values)
    header = pb.ExtractHeader(**CHOSEN.header_fields())
    sent = {field.name for field, _ in header.ListFields()}
    assert sent == {option.header for option in OPTIONS.values() if option.header}
    assert header.precision == pb.PRECISION_BFLOAT16
    assert header.memory_format == pb.MEMORY_FORMAT_CHANNELS_LAST
    usual = pb.ExtractHeader(**ExtractOptions().header_fields())
    assert usual.precision == pb.PRECISION_FLOAT32


def test_what_the_server_computes_with_comes_back_in_provenance() -> None:
    asked = set(ComputeOptions().to_dict())
    assert asked <= set(OPTIONS)
    assert asked <= {field.name for field in fields(Provenance)}


def test_options_of_a_model_are_model_parameters() -> None:
    assert set(OPTIONS) - set(PARAMETERS) == {
        "batch_size",
        "preprocessing",
        "streams",
        "allow_mixed",
    }


def test_a_batch_has_an_image_at_least() -> None:
    with pytest.raises(InvalidRequestError, match=r"`batch_size` must be from 1 to .*, got 0"):
        ExtractOptions(batch_size=0)


SNIPPET = """
from thingsvision_client import Client, rsa

client = Client("127.0.0.1:1")
client.extract("a/b", [], "c", batch_size=2, precision="tf32", dtype="float16")
rsa([], [], "a/b", "c", batch_size=2, compiled=True)
client.extract("a/b", [], "c", precison="tf32")
client.stream("a/b", [], "c", batch_size="2")
client.fit_pca("a/b", [], "c", components=2, dtype="float16")
rsa([], [], "a/b", "c", compiled=1.5)
"""
ACCEPTED_LINES = 6


def test_mypy_sees_names_and_types(tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--config-file="]
    cache = f"--cache-dir={tmp_path / 'cache'}"
    done = subprocess.run([*command, cache, file], capture_output=True, text=True, check=False)
    wrong = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line]
    assert wrong == list(range(ACCEPTED_LINES + 1, len(SNIPPET.splitlines()) + 1)), done.stdout
    assert 'Unexpected keyword argument "precison"' in done.stdout
