"""The model `Kakaobrain_Align` of the source `custom`: ALIGN of `transformers`, both towers.

Jia et al. 2021 (arXiv:2102.05918), retrained by Kakao Brain on COYO-700M: an EfficientNet-B7 for
images, a BERT for texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...inputs import IMAGE, TEXT, InputTransform, Preprocessing
from ..base import ModelKey
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..hugging_face.image_processors import lazy_processor_transform
from ..hugging_face.text_tokenizers import TextTokenizer, open_tokenizer
from ..weights.folder import HUB_FILES, PublishedWeights, WeightsFolder
from ..weights.state_dicts import StateDict, load_state
from .clip.texts import hub_folder

_NAME = "Kakaobrain_Align"
_TAG = "coyo700m"
_REPOSITORY = "kakaobrain/align-base"
_TOKENIZER_FILES = (("tokenizer_config.json",), ("tokenizer.json", "vocab.txt"))
_PARAMETER_COUNT = 172_117_841
_TEXT_TOKENS = 64
_VISION = {"image_size": 289, "hidden_dim": 640}
"""The settings in which its EfficientNet-B7 differs from the library's defaults."""

_PREPROCESSING = Preprocessing(
    resize_pixels=(346, 346),
    interpolation="bilinear",
    antialias=True,
    crop_pixels=(289, 289),
    value_range="-1..1",
    description="EfficientNetImageProcessor: resize to 346 x 346, bilinear; the middle 289 x 289; "
    "values / 127.5 - 1",
)


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    catalogue = AlignCatalogue(context.weights)
    return PyTorchSource(
        catalogue,
        context.weights,
        convert=catalogue.convert,
        parameter_counts={_NAME: _PARAMETER_COUNT},
    )


class AlignCatalogue:
    """A NetworkCatalogue of one network."""

    source = "custom"

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights
        shape = (3, *_PREPROCESSING.crop_pixels)
        images = lazy_processor_transform(_open_processor, _PREPROCESSING, shape)
        texts = TextTokenizer(self._open_tokenizer, _TEXT_TOKENS).transform(_REPOSITORY)
        self._transforms = {IMAGE: images, TEXT: texts}

    def names(self) -> list[str]:
        """Return the one name."""
        return [_NAME]

    def tags(self, name: str) -> list[str]:
        """Return the one tag."""
        return [_TAG]

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights are published."""
        return PublishedWeights("", _REPOSITORY, HUB_FILES)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the transforms of images and texts; texts need the repository's tokenizer."""
        return self._transforms

    def towers(self, network: Any) -> Mapping[str, nn.Module]:
        """Return the image tower and the text tower."""
        from ..hugging_face.networks import image_tower, text_tower

        return {IMAGE: image_tower(network), TEXT: text_tower(network)}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        from transformers import AlignConfig

        from ..hugging_face.networks import build

        network: nn.Module = build(AlignConfig(text_config={}, vision_config=_VISION))
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with the tensors of its file."""
        return load_state(self.build(name), state)

    def convert(self, name: str, state: StateDict) -> StateDict:
        """Remove the position ids, which older versions of the library saved."""
        return {key: tensor for key, tensor in state.items() if not key.endswith(".position_ids")}

    def _open_tokenizer(self) -> Any:
        folder = hub_folder(self._weights, _REPOSITORY, _TOKENIZER_FILES, purpose="texts")
        return open_tokenizer(folder)


def _open_processor() -> Any:
    from PIL import Image
    from transformers import EfficientNetImageProcessor

    return EfficientNetImageProcessor(
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=Image.Resampling.BILINEAR,
    )
