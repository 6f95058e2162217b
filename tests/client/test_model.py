import pytest

from thingsvision_client import Model
from thingsvision_client.errors import InvalidRequestError
from thingsvision_proto.model_id import model_id


@pytest.mark.parametrize(
    ("text", "model", "identity"),
    [
        ("torchvision/resnet50", Model("torchvision", "resnet50"), "torchvision/resnet50@default"),
        ("torchvision/vgg16@default", Model("torchvision", "vgg16", "default"), None),
        ("torchvision/vgg16@IMAGENET1K_V1", Model("torchvision", "vgg16", "IMAGENET1K_V1"), None),
        ("timm/vit@random:0", Model("timm", "vit", "random:0"), None),
        ("timm/hub/owner/vit@a", Model("timm", "hub/owner/vit", "a"), None),
        (f"a/b@sha256:{'0a' * 32}", Model("a", "b", f"sha256:{'0a' * 32}"), None),
    ],
)
def test_text_names_a_model(text: str, model: Model, identity: str | None) -> None:
    assert Model.parse(text) == model
    assert str(model) == text
    assert model_id(model.to_spec()) == (identity or text)
    assert Model.parse(model_id(Model.from_spec(model.to_spec()).to_spec())).to_spec() == (
        model.to_spec()
    )


@pytest.mark.parametrize(
    "text",
    ["", "resnet50", "/resnet50", "torchvision/", "a/b@random:", "a/b@random:-1", "a/b@random:x",
     f"a/b@random:{2**64}", "a/b@sha256:12", f"a/b@sha256:{'A' * 64}"],
)  # fmt: skip
def test_texts_that_name_no_model_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Model.parse(text)


@pytest.mark.parametrize("text", ["VGG16", "VGG16@random:0"])
def test_a_bare_name_says_how_to_find_its_source(text: str) -> None:
    sentence = rf"must be 'source/name', .* got '{text}': .*models\(name_glob='VGG16'\)"
    with pytest.raises(InvalidRequestError, match=sentence):
        Model.parse(text)
