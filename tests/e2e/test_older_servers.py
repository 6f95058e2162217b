"""What a server doesn't know of a request is an error before the first row, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
import torchvision

import thingsvision_client
from support.older_server import OLDER, older_server
from support.serving import TestServer
from support.stock_calls import StockCaller, spec
from thingsvision_client import (
    Client,
    Preprocessing,
    PreprocessingOverrides,
    Reduction,
    get_extractor,
    load_batches,
)
from thingsvision_client.errors import UnsupportedError
from thingsvision_client.values.options import OPTIONS
from thingsvision_client.values.version import age_text
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.12"
VIT, BLOCK = "timm/test_vit@random:0", "blocks.0"
OWN = thingsvision_client.__version__


@dataclass(frozen=True)
class Case:
    """An option that servers without the fields `missing` ignore; the sentence has `words`."""

    option: str
    value: Any
    missing: Mapping[str, tuple[str, ...]]
    words: str
    model: str = MODEL
    module: str = MODULE

    def __str__(self) -> str:
        return self.words


def both(name: str) -> dict[str, tuple[str, ...]]:
    return {"ExtractHeader": (name,), "Provenance": (name,)}


CASES = [
    Case("precision", "bfloat16", both("precision"), "`precision` 'bfloat16', got nothing"),
    Case("precision", "bfloat16", {"Provenance": ("precision",)}, "`precision` 'bfloat16'"),
    Case("deterministic", True, both("deterministic"), "`deterministic` True, got nothing"),
    Case(
        "memory_format",
        "channels_last",
        {"ExtractHeader": ("memory_format",)},
        "`memory_format` 'channels_last', got 'contiguous'",
    ),
    Case("compiled", True, both("compiled"), "`compiled` True, got nothing"),
    Case("batch_size", 2, {"ExtractHeader": ("batch_size",)}, "`batch_size` 2, got nothing"),
    Case(
        "token_extraction",
        "cls_token",
        {"ExtractHeader": ("token_extraction",), "ExtractReplyHeader": ("token_extraction",)},
        "`token_extraction` 'cls_token', got nothing",
        VIT,
        BLOCK,
    ),
    Case(
        "preprocessing",
        PreprocessingOverrides(resize=96, crop=64),
        {"ExtractHeader": ("overrides",)},
        "`preprocessing.resize_pixels` [96], got [256]",
    ),
    Case(
        "preprocessing",
        PreprocessingOverrides(crop=False, resize=(64, 64)),
        {"PreprocessingOverrides": ("no_crop",)},
        "`preprocessing.crop_pixels` [], got [224, 224]",
    ),
    Case(
        "preprocessing",
        Preprocessing(resize_pixels=(224, 224)),
        {"ExtractHeader": ("preprocessing",)},
        "`preprocessing.owner` 'user', got nothing",
    ),
    Case("reduction", Reduction(units=[1, 5]), both("reduction"), "`reduction.units` [1, 5]"),
    Case(
        "reduction",
        Reduction(pool="mean", pool_axes=[1, 2], components=4),
        {"Reduction": ("projection",)},
        "`reduction.projection` {'component_count': 4}, got nothing",
    ),
    Case(
        "dtype", "float16", {"ExtractHeader": ("element_type",)}, "`dtype` 'float16', got 'float32'"
    ),
]


def test_every_option_has_a_case() -> None:
    sent = {option.name for option in OPTIONS.values() if option.is_of_values}
    assert {case.option for case in CASES} == sent


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_an_older_server_ignores_is_refused(
    server: TestServer, photos: list[Path], case: Case
) -> None:
    options = {"batch_size": 1} if case.option == "compiled" else {}
    options |= {case.option: case.value}
    with older_server(server.address, case.missing) as address, Client(address) as client:
        with pytest.raises(UnsupportedError) as refused:
            client.extract(case.model, photos[:2], case.module, **options)
        sentence = str(refused.value)
        assert case.words in sentence
        assert f"server ({OLDER}) is older than this client ({OWN}): update" in sentence
        assert sentence.endswith(f"leave out `{case.option}`.")
        stream = client.stream(case.model, photos[:2], case.module, **options)
        with pytest.raises(UnsupportedError):
            next(stream)
        if case.option != "dtype":
            with pytest.raises(UnsupportedError) as refused:
                client.rdm(case.model, photos[:3], case.module, **options)
            assert case.words in str(refused.value)


def test_what_was_not_asked_for_needs_no_field(server: TestServer, photos: list[Path]) -> None:
    fields = ("precision", "deterministic", "memory_format", "compiled", "reduction")
    missing = {"ExtractHeader": fields, "Provenance": fields}
    with Client(server.address) as client:
        expected = client.extract(MODEL, photos, MODULE, batch_size=2).features[MODULE]
    with older_server(server.address, missing) as address, Client(address) as client:
        found = client.extract(MODEL, photos, MODULE, batch_size=2)
        np.testing.assert_array_equal(found.features[MODULE], expected)
        assert found.provenance.server_version == OLDER


def test_other_calls_are_compared_as_well(server: TestServer, photos: list[Path]) -> None:
    missing = {
        "PreprocessHeader": ("overrides",),
        "ExtractHeader": ("memory_format",),
        "ModelSpec": ("weights_part",),
    }
    small = PreprocessingOverrides(resize=64, crop=64)
    with older_server(server.address, missing) as address, Client(address) as client:
        with pytest.raises(UnsupportedError, match=r"`preprocessing.resize_pixels` \[64\]"):
            client.preprocess(MODEL, photos[:1], small)
        with pytest.raises(UnsupportedError, match="`memory_format` 'channels_last'"):
            client.fit_pca(MODEL, photos, MODULE, components=1, memory_format="channels_last")


def test_a_part_of_a_file_is_compared(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"ema": torchvision.models.squeezenet1_1().state_dict()}, path)
    with Client(server.address) as client:
        sha256 = client.upload_weights(path)
    model = f"torchvision/squeezenet1_1@sha256:{sha256}:ema"
    missing = {"ModelSpec": ("weights_part",)}
    sentence = r"`model\.weights_part` 'ema', got nothing"
    with (
        older_server(server.address, missing) as address,
        Client(address) as client,
        pytest.raises(UnsupportedError, match=sentence),
    ):
        client.extract(model, photos[:1], MODULE)


def test_no_file_is_written(server: TestServer, photos: list[Path], tmp_path: Path) -> None:
    missing = both("memory_format")
    with older_server(server.address, missing) as address:
        extractor = get_extractor(
            "squeezenet1_1",
            source="torchvision",
            device=None,
            pretrained=False,
            server=address,
            model_parameters={"memory_format": "channels_last"},
        )
        batches = load_batches(photos[0].parent, str(tmp_path), "pt", batch_size=4)
        with pytest.raises(UnsupportedError, match="`memory_format` 'channels_last'"):
            extractor.extract_features(batches, MODULE, output_dir=str(tmp_path / "features"))
    assert not list(tmp_path.rglob("*.npy"))


def test_a_stored_pca_that_was_fitted_otherwise_is_refused(
    client: Client, photos: list[Path]
) -> None:
    fit: dict[str, Any] = {"components": 1, "name": "stored-otherwise"}
    first = client.fit_pca(MODEL, photos, MODULE, batch_size=2, **fit)
    assert client.fit_pca(MODEL, photos, MODULE, batch_size=2, **fit) == first
    with pytest.raises(UnsupportedError, match=r"`deterministic` True.*delete_pca"):
        client.fit_pca(MODEL, photos, MODULE, deterministic=True, **fit)
    client.delete_pca(first.sha256)
    again = client.fit_pca(MODEL, photos, MODULE, deterministic=True, **fit)
    assert again.provenance.deterministic
    scores = client.extract(MODEL, photos, MODULE, reduction=Reduction(pca=again.name))
    assert scores.provenance.pca is not None
    assert scores.provenance.pca.sha256 == again.sha256


def test_a_server_refuses_fields_of_newer_clients(stock: StockCaller, photos: list[Path]) -> None:
    known = spec()
    header = pb.ExtractHeader(model=known, modules=[MODULE])
    nested = pb.ExtractHeader(model=_with_new(known), modules=[MODULE])
    told = (("x-thingsvision-version", "9.9"),)
    for asked, name in ((_with_new(header), "ExtractHeader"), (nested, "ModelSpec")):
        refused = stock.refusal("Extract", [pb.ExtractRequest(header=asked)], told)
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED
        assert refused.reason == "UnsupportedError"
        assert f"field 900 of {name}; the client (9.9) is newer" in refused.sentence
        assert f"this server ({OWN})" in refused.sentence
        assert refused.trailers["x-thingsvision-version"] == OWN
    load = _with_new(pb.LoadModelRequest(model=known))
    assert "field 900 of LoadModelRequest" in stock.refusal("LoadModel", load).sentence
    image = _with_new(pb.Image(index=0, name="a", encoded=photos[0].read_bytes()))
    requests = [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]
    assert "field 900 of Image" in stock.refusal("Extract", requests).sentence


def _with_new(message: Any) -> Any:
    """Return a message with a field 900, which no contract has yet."""
    tag = 900 << 3
    field = bytes([tag & 0x7F | 0x80, tag >> 7, 1])
    return type(message).FromString(message.SerializeToString() + field)


def test_sentences_say_which_side_is_older() -> None:
    assert OWN
    assert age_text("0.0.1").startswith(f"The server (0.0.1) is older than this client ({OWN})")
    assert age_text("10.0").startswith(f"This client ({OWN}) is older than the server (10.0)")
    assert age_text("").startswith(f"The server is older than this client ({OWN})")
    assert "the same build" in age_text(OWN)
