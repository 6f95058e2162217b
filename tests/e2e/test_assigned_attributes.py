"""Attributes of both façades that are assigned: they work as in the library, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.serving import TestServer
from thingsvision_client import Extractor, get_extractor, load_batches
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.model_class import Model as PaperModel


@pytest.fixture
def extractor(server: TestServer) -> Extractor:
    parameters = {"seed": 2}
    return get_extractor(
        "vit_b_16", False, "cpu", "torchvision", model_parameters=parameters, server=server.address
    )


@pytest.fixture
def model(server: TestServer) -> PaperModel:
    return PaperModel("alexnet", False, "cpu", server=server.address)


def test_what_an_extractor_was_made_from(extractor: Extractor) -> None:
    assert (extractor.model_name, extractor.source) == ("vit_b_16", "torchvision")
    assert (extractor.device, extractor.pretrained) == ("cpu", False)
    assert (extractor.model_path, extractor.model_parameters) == (None, {"seed": 2})
    assert extractor.preprocess == extractor.get_transformations()
    with pytest.raises(TypeError, match="item assignment"):
        extractor.model_parameters["seed"] = 3


def test_a_device_that_was_not_asked_for_is_the_servers(server: TestServer) -> None:
    extractor = get_extractor("alexnet", False, None, "torchvision", server=server.address)
    assert extractor.device == "cpu"


def test_token_extraction_can_be_assigned(
    extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    module = "encoder.layers.encoder_layer_0"
    batches = load_batches(photos[0].parent, tmp_path, "pt", 1, file_names=[photos[0].name])
    whole = extractor.extract_features(batches, module)
    extractor.token_extraction = "cls_token"
    np.testing.assert_array_equal(extractor.extract_features(batches, module), whole[:, 0])
    extractor.token_extraction = None
    np.testing.assert_array_equal(extractor.extract_features(batches, module), whole)
    with pytest.raises(InvalidRequestError, match="must be one of cls_token"):
        extractor.token_extraction = "first"


@pytest.mark.parametrize("kind", ["extractor", "model"])
def test_another_device_is_checked(kind: str, request: pytest.FixtureRequest) -> None:
    owner: Any = request.getfixturevalue(kind)
    owner.device = "cpu"
    with pytest.warns(UserWarning, match="no device 'cuda'") as caught:
        owner.device = "cuda"
    assert caught[0].filename == __file__
    assert owner.device == "cuda"


@pytest.mark.parametrize("kind", ["extractor", "model"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model_name", "make a new one"),
        ("pretrained", "make a new one"),
        ("model_path", "make a new one"),
        ("backend", "make a new one"),
        ("source", "make a new one"),
        ("model_parameters", "`token_extraction` can be assigned"),
        ("preprocess", r"ImageDataset\(transforms"),
        ("forward", "forward_fn"),
        ("flatten_acts", "flatten_fn"),
        ("get_transformations", r"ImageDataset\(transforms"),
        ("extract_features", "can't be assigned"),
        ("module_name", "name the module"),
        ("output_type", "take output_type"),
        ("modle", "would have no effect; near: .*model"),
        ("anything", "would have no effect"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    kind: str, name: str, text: str, request: pytest.FixtureRequest
) -> None:
    owner = request.getfixturevalue(kind)
    with pytest.raises(AttributeError, match=text):
        setattr(owner, name, None)


def test_what_the_library_has_besides_says_what_to_use(extractor: Extractor) -> None:
    with pytest.raises(AttributeError, match="extract_batch"):
        _ = extractor.activations
    with pytest.raises(AttributeError, match=r"client\.load"):
        extractor.load_model()
    with pytest.raises(AttributeError, match=r"fit_pca\(.*preprocessing=extractor.changes\)"):
        extractor.fit_pca()
    with pytest.raises(AttributeError, match="near: show_model"):
        extractor.show_modl()


def test_a_model_that_is_its_own_stays(extractor: Extractor) -> None:
    before = extractor.model
    extractor.model = extractor.model.to("cpu").eval()
    assert extractor.model is before
    with pytest.raises(InvalidRequestError, match="part 'encoder' of one"):
        extractor.model = before.encoder
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        extractor.model = "resnet18"
    assert extractor.model is before


def test_attributes_can_not_be_deleted(model: PaperModel, extractor: Extractor) -> None:
    for owner in (model, extractor):
        with pytest.raises(AttributeError, match=r"can't be deleted: .*client\.unload"):
            del owner.model
        with pytest.raises(AttributeError, match=r"`backend` of \w+ can't be deleted\."):
            del owner.backend
        with pytest.raises(AttributeError, match=r"no attribute 'modle'; near: .*model"):
            del owner.modle


def test_a_models_extractor_is_assigned_or_refused(model: PaperModel, extractor: Extractor) -> None:
    assert model.model == model.extractor.model
    model.extractor = extractor
    assert str(model.model) == "torchvision/vit_b_16@random:2"
    model.load_model()
    assert str(model.model) == "torchvision/alexnet@random:0"
    with pytest.raises(TypeError, match="must be an Extractor"):
        model.extractor = "alexnet"  # type: ignore[assignment]


class Noted(PaperModel):
    """As a user's subclass with an attribute of its own."""

    def __init__(self, note: str, *arguments: Any, **options: Any) -> None:
        self.note = note
        super().__init__(*arguments, **options)


def test_a_subclass_has_attributes_of_its_own(server: TestServer) -> None:
    model = Noted("mine", "alexnet", False, None, server=server.address)
    model.later = 1
    del model.later
    model.later = 1
    assert (model.note, model.later, model.source) == ("mine", 1, "torchvision")
    with pytest.raises(AttributeError, match="make a new one"):
        model.backend = "tf"


class Idle(PaperModel):
    def load_model(self) -> None:
        """Forget to load."""


def test_a_subclass_that_loads_nothing_is_told(server: TestServer) -> None:
    with pytest.raises(ValueError, match="must assign a network"):
        Idle("alexnet", False, None, server=server.address)
