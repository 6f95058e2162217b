"""The networks of the family that come from Keras libraries and are rebuilt with timm.

A model's modules have timm's names, and its output is the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm

from ...catalogues.checkpoints import Checkpoint, CheckpointCatalogue, checkpoint_source
from ...catalogues.pytorch import PyTorchSource
from ...context import SourceContext
from ...uploads.keras_tensors import read_weights
from ...weights.state_dicts import StateDict
from .conversions import convnext, efficientnet, levit, maxvit, vit
from .shared import FAMILY, PREPROCESSING, TAG, weights_at


def open_source(context: SourceContext) -> PyTorchSource:
    """Open this part of the family."""
    networks = {f"{FAMILY}{name}": checkpoint for name, checkpoint in _NETWORKS.items()}
    catalogue = CheckpointCatalogue("custom", TAG, networks, PREPROCESSING)
    return checkpoint_source(context, catalogue, read=read_weights, may_be_keras=True)


def _network(
    architecture: str,
    parameter_count: int,
    convert: Callable[[StateDict], StateDict],
    file: str,
    cached_as: str = "",
    **options: Any,
) -> Checkpoint:
    build = partial(timm.create_model, architecture, **options)
    return Checkpoint(build, weights_at(file, cached_as), parameter_count, convert)


_NETWORKS: Mapping[str, Checkpoint] = {
    "EfficientNetB0": _network(
        "tf_efficientnet_b0", 5_288_548, efficientnet, "efficientnetB0_harmonized"
    ),
    "LeViT_small": _network(
        "levit_128", 8_828_168, levit, "levit_small_harmonized", distilled=False
    ),
    "ViT_B16": _network("vit_base_patch16_224", 86_567_656, vit, "vit-b16_harmonized"),
    "tiny_ConvNeXT": _network(
        "convnext_tiny",
        28_589_128,
        convnext,
        "convnext_tiny_harmonized",
        cached_as="tiny_convnext_harmonized",
    ),
    "tiny_MaxViT": _network("maxvit_tiny_tf_224", 30_916_528, maxvit, "maxvit_tiny_harmonized"),
}
