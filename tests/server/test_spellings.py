"""Names of models and weights that their libraries resolve are resolved alike."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import get_deprecated_models, get_pretrained_cfg
from torchvision import models

from support.serving import TestServer, open_sources
from thingsvision_client import Client, Model, get_extractor
from thingsvision_client.errors import InvalidRequestError, UnknownModelError, UnknownWeightsError
from thingsvision_client.model_class import Model as PaperModel
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


def resolved(sources: Sources, text: str) -> str:
    return str(sources.resolve(ModelKey.parse(text)))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("timm/resnet50.a1_in1k", "timm/resnet50@a1_in1k"),
        ("timm/resnet50.tv_in1k", "timm/resnet50@tv_in1k"),
        ("timm/timm/resnet50.tv_in1k", "timm/resnet50@tv_in1k"),
        ("timm/hf-hub:timm/resnet50.tv_in1k", "timm/resnet50@tv_in1k"),
        ("timm/resnet50@resnet50.tv_in1k", "timm/resnet50@tv_in1k"),
        ("timm/resnet50.tv_in1k@tv_in1k", "timm/resnet50@tv_in1k"),
        ("timm/vit_base_patch16_224_in21k", "timm/vit_base_patch16_224@augreg_in21k"),
        ("timm/tf_efficientnet_b0_ns", "timm/tf_efficientnet_b0@ns_jft_in1k"),
        ("timm/swsl_resnet18", "timm/resnet18@fb_swsl_ig1b_ft_in1k"),
        ("timm/ssl_resnet50", "timm/resnet50@fb_ssl_yfcc100m_ft_in1k"),
        ("timm/gluon_resnet50_v1b", "timm/resnet50@gluon_in1k"),
        ("timm/gluon_resnet50_v1b@random:3", "timm/resnet50.gluon_in1k@random:3"),
        ("timm/resnet50.a1_in1k@random:3", "timm/resnet50@random:3"),
        ("timm/resnet50.tv_in1k@random:3", "timm/resnet50.tv_in1k@random:3"),
        ("torchvision/ResNet50@IMAGENET1K_V1", "torchvision/resnet50@IMAGENET1K_V1"),
        ("torchvision/resnet50@DEFAULT", "torchvision/resnet50@IMAGENET1K_V2"),
        (
            "torchvision/resnet50@ResNet50_Weights.IMAGENET1K_V1",
            "torchvision/resnet50@IMAGENET1K_V1",
        ),
        ("torchvision/resnet50@ResNet50_Weights.DEFAULT", "torchvision/resnet50@IMAGENET1K_V2"),
        (
            "torchvision/FCN_ResNet50@FCN_ResNet50_Weights.DEFAULT",
            "torchvision/fcn_resnet50@COCO_WITH_VOC_LABELS_V1",
        ),
    ],
)
def test_names_are_resolved_as_their_libraries_do(sources: Sources, asked: str, meant: str) -> None:
    assert resolved(sources, asked) == meant
    assert resolved(sources, meant) == meant


def test_every_name_that_timm_renamed_has_its_own_weights(sources: Sources) -> None:
    # timm gives these a tag that it has renamed, and can't build them itself.
    broken = {"vit_base_patch16_224_sam", "vit_base_patch32_224_sam"}
    for old, new in get_deprecated_models().items():
        new = f"{new}_in1k" if old in broken else new
        key = sources.resolve(ModelKey("timm", old, Random(0)))
        assert timm.is_model(key.name.partition(".")[0]), old
        config = get_pretrained_cfg(new)
        if config is not None and config.has_weights:
            name, _, tag = new.partition(".")
            found = sources.resolve(ModelKey("timm", old, Pretrained("")))
            assert (found.name, found.weights) == (name, Pretrained(tag or config.tag)), old


def test_every_member_of_torchvisions_enums_is_known(sources: Sources) -> None:
    for name in sources["torchvision"].names():
        for member in models.get_model_weights(name):
            key = ModelKey("torchvision", name, Pretrained(f"{member}"))
            assert sources.resolve(key).weights == Pretrained(member.name)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ("timm/resnet50.a7_in1k", UnknownWeightsError, "no pretrained weights 'a7_in1k'. Did you"),
        ("timm/resnet50.a7_in1k@random:0", UnknownWeightsError, "no tag 'a7_in1k'"),
        ("timm/resnet50.a1_in1k@tv_in1k", InvalidRequestError, "must be 'a1_in1k', as its name"),
        ("timm/resnet5o.a1_in1k", UnknownModelError, "'resnet5o.a1_in1k'"),
        (
            "torchvision/resnet50@ResNet18_Weights.IMAGENET1K_V1",
            UnknownWeightsError,
            "resnet50 has no pretrained weights 'ResNet18_Weights.IMAGENET1K_V1'",
        ),
    ],
)
def test_what_a_library_does_not_resolve_is_refused(
    client: Client, asked: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        client.modules(asked)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            "torchvision/cornet-s",
            "torchvision has no model 'cornet-s'; source='custom' has 'cornet-s'",
        ),
        ("timm/cornet_s", "source='custom' has 'cornet-s'"),
        ("torchvision/resnet50.a1_in1k", "source='timm' has 'resnet50'"),
        ("torchvision/vit_base_patch16_224", "source='timm' has 'vit_base_patch16_224'"),
        ("timm/alexnet", "source='torchvision' has 'alexnet'"),
        ("torchvision/simclr-rn50", "source='ssl' has 'simclr-rn50'"),
        ("custom/ResNet50", "source='torchvision' has 'resnet50'"),
        ("keras/vgg16", "Did you mean 'VGG16'"),
    ],
)
def test_other_sources_with_such_a_model_are_named(
    client: Client, asked: str, sentence: str
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        client.modules(asked)
    assert sentence in str(caught.value)


def test_weights_may_be_members_of_torchvisions_enums() -> None:
    member = models.ResNet18_Weights.IMAGENET1K_V1
    assert Model("torchvision", "resnet18", member).weights == (  # type: ignore[arg-type]
        "ResNet18_Weights.IMAGENET1K_V1"
    )


def test_extractors_of_other_spellings_know_their_model(server: TestServer) -> None:
    parameters = {"weights": models.ResNet18_Weights.DEFAULT}
    for source, name, given, own in (
        ("torchvision", "resnet18", parameters, "ImageClassification"),
        ("timm", "swsl_resnet18", {}, "224"),
    ):
        extractor = get_extractor(name, True, None, source, None, given, server=server.address)
        preprocessing = extractor.client.preprocessing(extractor.model)
        if source == "timm":
            assert preprocessing is not None
            assert own in preprocessing.description
        assert extractor.get_backend() == "pt"
        assert extractor.get_module_names()


def test_preprocessing_is_that_of_the_tag_in_the_name(client: Client) -> None:
    by_name = client.preprocessing("timm/resnet50.ram_in1k")
    assert by_name == client.preprocessing("timm/resnet50@ram_in1k")
    assert by_name != client.preprocessing("timm/resnet50")
    (listed,) = client.models("timm", "resnet50.ram_in1k")
    assert [one.tag for one in listed.pretrained if one.is_default] == ["ram_in1k"]


def test_features_are_those_of_the_network_that_timm_builds(
    client: Client, server: TestServer, photos: list[Path]
) -> None:
    """A tag may change the network: of ImageNet-21k, it has 21,843 classes."""
    asked = "vit_tiny_patch16_224_in21k"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = timm.create_model(asked).eval()
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    assert expected.shape == (2, 21843)
    extraction = client.extract(f"timm/{asked}@random:0", images, "head")
    scale = np.abs(expected).max()
    np.testing.assert_allclose(extraction.features["head"], expected, rtol=0, atol=1e-5 * scale)
    assert extraction.provenance.model.name == "vit_tiny_patch16_224.augreg_in21k"


def test_the_papers_model_finds_renamed_models(server: TestServer) -> None:
    from thingsvision_client import connect

    connect(server.address)
    model = PaperModel("tf_efficientnet_b0_ns", pretrained=False, device=None)
    assert "blocks.0.0.conv_dw" in [module.name for module in model.modules()]
