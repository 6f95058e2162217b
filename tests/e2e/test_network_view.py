"""What scripts reach through `extractor.model`: the modules as in torch and Keras, no weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from support.serving import TestServer
from thingsvision_client import Client, Extractor, Model, get_extractor, get_extractor_from_model
from thingsvision_client.errors import InvalidRequestError, UnknownModuleError
from thingsvision_client.library.request import ServedModel
from thingsvision_client.library.settings import settings_of
from thingsvision_client.values.records import ModuleInfo


def opened(server: TestServer, name: str, source: str = "torchvision") -> Extractor:
    return get_extractor(name, False, None, source, server=server.address)


@pytest.fixture
def extractor(server: TestServer) -> Extractor:
    return opened(server, "alexnet")


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision", "alexnet"),
        ("torchvision", "googlenet"),  # classifiers that never run
        ("torchvision", "vit_b_16"),
        ("timm", "efficientnet_b0"),  # classes that derive from PyTorch's
    ],
)
def test_modules_are_those_of_the_network(server: TestServer, source: str, name: str) -> None:
    own = (
        timm.create_model(name)
        if source == "timm"
        else torchvision.models.get_model(name, weights=None)
    )
    model = opened(server, name, source).model
    assert [n for n, _ in model.named_modules()] == [n for n, _ in own.named_modules()]
    assert [n for n, _ in model.named_children()] == [n for n, _ in own.named_children()]
    for (full, view), module in zip(model.named_modules(), own.modules(), strict=True):
        assert view.__class__ is type(module), full
        assert isinstance(view, type(module))
        assert view.type == type(module).__name__
        assert view.extra_repr() == " ".join(module.extra_repr().split())
        assert view.parameter_count == sum(p.numel() for p in module.parameters())
        assert model.get_submodule(full) is view
    for kind in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
        found = [n for n, view in model.named_modules() if isinstance(view, kind)]
        assert found == [n for n, module in own.named_modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_the_view_is_shown_as_the_network(server: TestServer, name: str) -> None:
    own = torchvision.models.get_model(name, weights=None)
    assert repr(opened(server, name).model) == repr(own)


SETTINGS = [
    (nn.Conv2d(3, 8, 5), "in_channels out_channels kernel_size stride padding dilation groups"),
    (nn.Conv2d(4, 8, 3, 2, 1, 2, 2, bias=False), "padding dilation groups stride padding_mode"),
    (nn.Conv1d(3, 8, 5), "padding dilation groups"),
    (nn.Linear(5, 7), "in_features out_features"),
    (nn.BatchNorm2d(6), "num_features eps momentum affine track_running_stats"),
    (nn.LayerNorm((4, 5)), "normalized_shape eps elementwise_affine"),
    (nn.GroupNorm(2, 6), "num_groups num_channels eps"),
    (nn.Embedding(5, 7), "num_embeddings embedding_dim"),
    (nn.MaxPool2d(3, 2), "kernel_size stride padding dilation ceil_mode"),
    (nn.AdaptiveAvgPool2d((6, 6)), "output_size"),
    (nn.Dropout(0.3), "p inplace"),
    (nn.GELU(approximate="tanh"), "approximate"),
]


@pytest.mark.parametrize(("module", "names"), SETTINGS)
def test_settings_are_those_of_the_module(module: nn.Module, names: str) -> None:
    found = settings_of(info(type(module).__name__, module.extra_repr()))
    assert {name: found[name] for name in names.split()} == {
        name: getattr(module, name) for name in names.split()
    }


def info(kind: str, attributes: str) -> ModuleInfo:
    return ModuleInfo("a", kind, attributes, 1, "", 0, (), "", 1, True, "", "image", None)


def test_settings_that_are_not_python_are_left_out() -> None:
    assert settings_of(info("Odd", "12 -> 14, (unfinished")) == {}
    assert settings_of(info("Conv2D", "filters=8, padding=same")) == {
        "filters": 8, "padding": "same"
    }  # fmt: skip


def test_parts_are_reached_by_name_and_by_place(extractor: Extractor) -> None:
    model = extractor.model
    assert model.classifier[-1].out_features == 1000
    assert [layer.type for layer in model.features][:2] == ["Conv2d", "ReLU"]
    assert len(model.features) == 13
    assert model.features[1:3] == [model.features[1], model.get_submodule("features.2")]
    assert [name for name, _ in model.features.named_modules()][:2] == ["", "0"]
    assert model.layers == list(model.children()) == extractor.layers
    assert model.get_layer(index=0) is model.get_layer("features") is model.features
    assert model.features[0].output_shape == (64, 55, 55)
    assert extractor.get_module_names()[0] == "features"
    with pytest.raises(UnknownModuleError, match=r"near: features\.11"):
        model.get_submodule("features.11x")
    with pytest.raises(AttributeError, match="near: features"):
        _ = model.featurs
    with pytest.raises(TypeError, match="not one of Sequential"):
        len(model)


def test_classes_that_can_be_told_apart_only_by_isinstance_say_so(extractor: Extractor) -> None:
    first = extractor.model.features[0]
    assert type(first).__name__ == "Conv2d"
    with pytest.raises(TypeError, match=r"isinstance\(module, Linear\)"):
        assert type(first) in (nn.Linear, nn.Conv2d)


def test_functions_of_models_still_take_it(
    server: TestServer, client: Client, extractor: Extractor, photos: list[Path]
) -> None:
    model, record = extractor.model, Model("torchvision", "alexnet", "random:0")
    assert (str(model), hash(model), isinstance(model, Model)) == (str(record), hash(record), True)
    assert model == record
    assert record == model
    assert (model.source, model.name, model.weights) == ("torchvision", "alexnet", "random:0")
    found = client.extract(model, photos[:1], ["classifier.6"], batch_size=1)
    expected = client.extract(record, photos[:1], ["classifier.6"], batch_size=1)
    np.testing.assert_array_equal(*(x.features["classifier.6"] for x in (found, expected)))
    other = opened(server, "squeezenet1_0")
    other.model = model
    assert (other.model, other.model_name) == (record, "squeezenet1_0")


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (lambda model: model.state_dict(), "the weights stay on the server"),
        (lambda model: sum(p.numel() for p in model.parameters()), "use `parameter_count`"),
        (lambda model: next(model.named_parameters()), "use `parameter_count`"),
        (lambda model: model(torch.zeros(1)), r"can't be called: use extractor\.extract_features"),
        (lambda model: model.forward(1), "extract_batch"),
        (lambda model: model.features[0].register_forward_hook(print), "forward hook sees"),
        (lambda model: model.load_state_dict({}), "model_path=file"),
        (lambda model: model.half(), "'precision'"),
        (lambda model: model.to(torch.float16), "'precision'"),
        (lambda model: model.train(), "evaluation mode only"),
        (lambda model: model.requires_grad_(), "no gradients"),
        (
            lambda model: get_extractor_from_model(model, None, "pt"),
            "a view of a network on a server: use the extractor whose",
        ),
    ],
)
def test_what_needs_weights_says_what_to_use(
    extractor: Extractor, use: Callable[[Any], Any], advice: str
) -> None:
    with pytest.raises(InvalidRequestError, match=advice):
        use(extractor.model)


def test_what_is_not_a_method_is_missing_with_advice(extractor: Extractor) -> None:
    first = extractor.model.features[0]
    assert not hasattr(first, "weight")
    with pytest.raises(AttributeError, match="the weights stay on the server"):
        _ = first.weight
    with pytest.raises(AttributeError, match="the weights stay on the server"):
        list(nn.ModuleList([extractor.model]).parameters())


def test_a_view_is_not_changed(extractor: Extractor) -> None:
    model = extractor.model
    for change in (
        lambda: setattr(model, "classifier", nn.Identity()),
        lambda: setattr(model.features[1], "inplace", False),
        lambda: delattr(model, "classifier"),
    ):
        with pytest.raises(AttributeError, match="get_extractor_from_model"):
            change()
    assert model.training is False
    model.trainable = False  # what it is already


def test_modes_and_devices_return_the_view(extractor: Extractor) -> None:
    model = extractor.model
    assert model.eval() is model.train(False) is model.float() is model.to("cpu") is model.cpu()
    assert model.requires_grad_(False) is model.to(torch.float32) is model
    with pytest.warns(UserWarning, match="no device 'cuda:1'") as caught:
        model.to(torch.device("cuda:1"))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
)
def test_views_are_copied(extractor: Extractor, copied: Callable[[Any], Any]) -> None:
    assert copied(extractor.model) == extractor.model
    assert copied(extractor.model.features[3]).out_channels == 192


def test_a_server_that_is_gone_gives_a_plain_repr() -> None:
    assert "alexnet" in repr(extractor_of_nobody().model)


def extractor_of_nobody() -> Extractor:

    return Extractor(
        ServedModel(Client("127.0.0.1:9", timeout=0.2), Model("torchvision", "alexnet"))
    )


def test_keras_networks_have_layers(server: TestServer) -> None:
    extractor = opened(server, "MobileNetV2", "keras")
    model = extractor.model
    conv = model.get_layer("Conv1")
    assert (conv.filters, conv.padding, conv.output_shape) == (32, "same", (None, 112, 112, 32))
    assert (conv.name, conv.output.shape) == ("Conv1", (None, 112, 112, 32))
    assert [layer.name for layer in model.layers] == extractor.get_module_names()
    assert model.count_params() == 3_538_984
    with pytest.raises(InvalidRequestError, match="the weights stay on the server"):
        conv.get_weights()
