"""Features of texts over the wire equal those of open_clip itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # before a server in this process opens its sources in another thread
import pytest
import torch

from support.closeness import DEEP, assert_close
from support.serving import TestServer
from thingsvision_client import Client, Model, PreprocessingOverrides, errors, get_extractor
from thingsvision_client.images.texts import queue_texts
from thingsvision_client.library.extractor import Extractor

SEED = 4
ARCHITECTURE = "ViT-S-32-alt"
CLIP = Model("custom", f"OpenCLIP/{ARCHITECTURE}", f"random:{SEED}")
TEXTS = ["a photograph of a cat", "an astronaut", "", "Kaffee, très chaud ☕"]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    config: dict[str, Any] = open_clip.get_model_config(ARCHITECTURE)
    torch.manual_seed(SEED)
    network = open_clip.CustomTextCLIP(**config).eval()
    with torch.no_grad():
        features = network.encode_text(open_clip.get_tokenizer(ARCHITECTURE)(TEXTS))
    return features.numpy()


@pytest.fixture(scope="module")
def extractor(server: TestServer) -> Extractor:
    parameters = {"variant": ARCHITECTURE, "seed": SEED}
    return get_extractor(
        "OpenCLIP", False, None, "custom", model_parameters=parameters, server=server.address
    )


def test_features_of_texts_equal_open_clips(
    client: Client, extractor: Extractor, expected: np.ndarray
) -> None:
    assert extractor.model == CLIP
    found = extractor.extract_text_features(TEXTS)
    assert_close(found, expected, DEEP)
    assert len({row.tobytes() for row in found}) == len(TEXTS)
    named = client.extract_texts(CLIP, list(zip("abcd", TEXTS, strict=True)), batch_size=4)
    assert named.images == list("abcd")
    assert list(named.features) == ["text"]
    assert_close(named.features["text"], expected, DEEP)
    assert client.extract_texts(CLIP, TEXTS[0]).images == TEXTS[:1]


def test_texts_and_images_share_their_space(
    client: Client, extractor: Extractor, photos: list[Path]
) -> None:
    images = client.extract(CLIP, photos[:2], "visual").features["visual"]
    assert extractor.extract_text_features(TEXTS).shape == (len(TEXTS), images.shape[1])


def test_hidden_modules_of_the_text_tower(client: Client, extractor: Extractor) -> None:
    module = "text.transformer.resblocks.1"
    hidden = client.extract_texts(CLIP, TEXTS, module, batch_size=4)
    tokens, width = hidden.features[module].shape[1:]
    assert tokens == 77
    same = extractor.extract_text_features(TEXTS, module, batch_size=4)
    np.testing.assert_array_equal(same, hidden.features[module])
    flat = client.extract_texts(CLIP, TEXTS, module, flatten=True).features[module]
    assert flat.shape == (len(TEXTS), tokens * width)
    rdm = client.rdm(CLIP, queue_texts(TEXTS), "text", dtype="float64").rdms["text"]
    assert rdm.shape == (4, 4)
    assert np.isfinite(rdm).all()


def test_models_that_take_no_texts_say_so(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    with pytest.raises(errors.InvalidRequestError, match="no text tower: it takes only images"):
        client.extract_texts("torchvision/squeezenet1_1@random:0", TEXTS)
    plain = get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)
    with pytest.raises(ValueError, match="no text tower"):
        plain.extract_text_features(TEXTS)
    with pytest.raises(errors.ImageError, match=r"'an astronaut'\) is a text; .* encoded image"):
        client.extract_texts(CLIP, TEXTS[1:], "visual")
    with pytest.raises(errors.ImageError, match=r"is an encoded image; .* take a text"):
        client.extract(CLIP, photos[:1], "text")
    with pytest.raises(
        errors.InvalidRequestError, match="'visual' takes images, 'text' takes texts"
    ):
        client.extract(CLIP, photos[:1], ["visual", "text"])


def test_preprocessing_of_images_is_refused_for_texts(client: Client) -> None:
    changes = PreprocessingOverrides(mean=[0, 0, 0])
    with pytest.raises(
        errors.InvalidRequestError, match=r"`overrides` must be left out: .*text inputs"
    ):
        client.extract(CLIP, queue_texts(TEXTS), "text", preprocessing=changes)
    ready = np.zeros((1, 3, 224, 224), "float32")
    with pytest.raises(
        errors.InvalidRequestError, match=r"`tensors` must be left out: .*text inputs"
    ):
        client.extract(CLIP, ready, "text")


def test_modules_that_see_texts_are_shown(
    extractor: Extractor, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor.show_model()
    lines = {line.strip().partition(":")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["text"].endswith(", of texts")
    assert not lines["visual"].endswith("texts")


def test_modules_inside_a_tower_take_its_inputs(client: Client) -> None:
    for module in client.modules(CLIP):
        tower = module.name.partition(".")[0]
        assert module.modality == {"text": "text"}.get(tower, "image"), module.name


def test_variants_are_named_as_their_authors_do(server: TestServer) -> None:
    names = {"ViT-B/32": "ViT-B-32", "ViT-L/14@336px": "ViT-L-14-336", "RN50": "RN50"}
    for variant, name in names.items():
        made = get_extractor(
            "clip", True, None, "custom", model_parameters={"variant": variant},
            server=server.address,
        )  # fmt: skip
        assert made.model == Model("custom", f"clip/{name}")
        assert made.get_backend() == "pt"
    tagged = get_extractor(
        "OpenCLIP", True, None, "custom",
        model_parameters={"variant": "ViT-B/32", "dataset": "laion400m_e32"},
        server=server.address,
    )  # fmt: skip
    assert tagged.model == Model("custom", "OpenCLIP/ViT-B-32", "laion400m_e32")
    bare = get_extractor("OpenCLIP", True, None, "custom", server=server.address)
    assert bare.model == Model("custom", "OpenCLIP/ViT-B-32-quickgelu", "laion400m_e32")
    assert bare.model_parameters == {}
    with pytest.raises(errors.UnknownModelError, match="clip/ViT-B-32"):
        get_extractor(
            "clip", True, None, "custom", model_parameters={"variant": "ViT-B/33"},
            server=server.address,
        )  # fmt: skip
