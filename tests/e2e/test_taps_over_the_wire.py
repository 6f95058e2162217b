"""Steps and tokens of modules, asked for over the wire."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from support.closeness import assert_close
from support.stock_calls import StockCaller
from thingsvision_proto.v1 import thingsvision_pb2 as pb


def request(
    model: str, photo: Path, modules: list[str], tokens: pb.TokenExtraction = 0
) -> list[pb.ExtractRequest]:
    source, _, name = model.partition("/")
    spec = pb.ModelSpec(source=source, name=name, random_seed=0)
    header = pb.ExtractHeader(model=spec, modules=modules, batch_size=1, token_extraction=tokens)
    image = pb.Image(index=0, name="photo", encoded=photo.read_bytes())
    return [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]


def features(replies: list[pb.ExtractResponse]) -> dict[str, Any]:
    header, *frames, _trailer = replies
    stream = b"".join(reply.frame.arrow_ipc for reply in frames)
    table = pa.ipc.open_stream(io.BytesIO(stream)).read_all()
    return {
        column.name: table[column.name].combine_chunks().to_numpy_ndarray()
        for column in header.header.columns
    }


def test_tokens_through_a_server(stock: StockCaller, photos: list[Path]) -> None:
    names = ["blocks.2", "norm"]
    model = "ssl/dino-vit-small-p16"
    whole = features(stock.call("Extract", request(model, photos[0], names)))
    for kind, cut in (
        (pb.TOKEN_EXTRACTION_CLS_TOKEN, lambda tokens: tokens[:, 0]),
        (pb.TOKEN_EXTRACTION_AVG_POOL, lambda tokens: tokens[:, 1:].mean(axis=1)),
    ):
        found = features(stock.call("Extract", request(model, photos[0], names, kind)))
        for name in names:
            assert whole[name].shape == (1, 197, 384)
            assert found[name].shape == (1, 384)
            assert_close(found[name], cut(whole[name]))


@pytest.mark.parametrize(
    ("model", "module", "sentence"),
    [
        ("torchvision/resnet18", "layer4", r"this one outputs \[512, 7, 7\]"),
        ("timm/mixer_s32_224", "blocks.0", "has no class token; use avg_pool"),
        ("timm/vit_little_patch16_reg4_gap_256", "blocks.0", "has no class token; use avg_pool"),
        ("ssl/dino-xcit-small-12-p16", "blocks.0", "has no class token; use avg_pool"),
        ("timm/swin_tiny_patch4_window7_224", "norm", r"this one outputs \[7, 7, 768\]"),
    ],
)
def test_no_class_token_is_made_up(
    stock: StockCaller, photos: list[Path], model: str, module: str, sentence: str
) -> None:
    wanted = request(model, photos[0], [module], pb.TOKEN_EXTRACTION_CLS_TOKEN)
    refusal = stock.refusal("Extract", wanted)
    assert refusal.reason == "NotExtractableError"
    assert re.search(sentence, refusal.sentence), refusal.sentence


def test_steps_through_a_server(stock: StockCaller, photos: list[Path]) -> None:
    names = ["V1.output@t=0", "V1.output@t=4", "V1.output@all", "V1.output"]
    found = features(stock.call("Extract", request("custom/cornet-rt", photos[0], names)))
    first, fifth, every, last = (found[name] for name in names)
    assert every.shape == (1, 5, 64, 56, 56)
    np.testing.assert_array_equal(every[:, 0], first)
    np.testing.assert_array_equal(every[:, 4], fifth)
    np.testing.assert_array_equal(last, fifth)
    assert not np.array_equal(first, fifth)
    refusal = stock.refusal("Extract", request("custom/cornet-rt", photos[0], ["V1.output@t=9"]))
    assert refusal.reason == "UnknownModuleError"
    assert (
        "'V1.output' runs 5 times: the step must be @t=0 to @t=4, got 'V1.output@t=9'"
        in refusal.sentence
    )
