"""Options on a GPU: refused with a sentence until a check has run them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from support.serving import TestServer
from thingsvision_client import Client, errors
from thingsvision_server.backends.compute_options import DEFAULT, MemoryFormat, Precision
from thingsvision_server.backends.torch import offered
from thingsvision_server.backends.torch.offered import offered_options, untried_options
from thingsvision_server.backends.torch.shortcuts import use_shortcuts

MODEL = "torchvision/squeezenet1_1@random:0"


def test_a_cpu_offers_all_it_can_compute() -> None:
    found = offered_options(on_gpu=False, is_traced=False)
    assert found["memory_format"] == tuple(MemoryFormat)
    assert found["compiled"] == (False, True)
    assert found["precision"] == (Precision.FLOAT32, Precision.BFLOAT16)
    assert not any(untried_options(on_gpu=False, is_traced=False).values())
    assert list(offered_options(on_gpu=False, is_traced=True)) == ["precision"]


def test_a_gpu_offers_what_was_seen_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "SEEN_ON_GPU", {"precision": (Precision.TF32,)})
    found = offered_options(on_gpu=True, is_traced=False)
    assert found["precision"] == (Precision.FLOAT32, Precision.TF32)
    assert found["compiled"] == (False,)
    untried = untried_options(on_gpu=True, is_traced=False)
    assert untried["precision"] == (Precision.BFLOAT16, Precision.FLOAT16)
    assert untried["memory_format"] == (MemoryFormat.CHANNELS_LAST,)
    assert untried["compiled"] == (True,)


def test_a_server_may_offer_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "SEEN_ON_GPU", {})
    with use_shortcuts(fast_max_pool=True, skip_initialisation=True, untried_options=True):
        found = offered_options(on_gpu=True, is_traced=False)
        assert found["precision"] == tuple(Precision)
        assert not any(untried_options(on_gpu=True, is_traced=False).values())
    for name, values in offered_options(on_gpu=True, is_traced=False).items():
        assert values == (getattr(DEFAULT, name),)


@dataclass
class Case:
    option: str
    value: Any
    word: str


@pytest.mark.parametrize(
    "case",
    [
        Case("precision", "bfloat16", "bfloat16"),
        Case("memory_format", "channels_last", "channels_last"),
        Case("compiled", True, "True"),
    ],
    ids=lambda case: case.option,
)
def test_what_was_never_seen_is_refused_with_what_to_do(
    server: TestServer, client: Client, monkeypatch: pytest.MonkeyPatch, photos: Any, case: Case
) -> None:
    client.load(MODEL)
    (resident,) = (one for one in server.running.residency.residents() if str(one.key) == MODEL)
    model = resident.ready_model.model
    # What a model on a GPU has, as no GPU is here.
    monkeypatch.setattr(model, "supported", offered_options(on_gpu=True, is_traced=False))
    monkeypatch.setattr(model, "untried", untried_options(on_gpu=True, is_traced=False))
    sentence = f"`{case.option}` must be left out .*, got {case.word}: .*--untried-options"
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        client.extract(MODEL, photos, "features.3", batch_size=2, **{case.option: case.value})
    client.extract(MODEL, photos[:2], "features.3", batch_size=2)
