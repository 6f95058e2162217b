"""A family of the source `custom`: torchvision's networks trained on ecoset.

Mehrer et al. 2021 (PNAS 118:e2011417118): 565 categories that matter to humans.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torchvision import models

from ..catalogues.checkpoints import (
    Checkpoint,
    CheckpointCatalogue,
    checkpoint_source,
    drop_keys,
    without_prefix,
)
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..weights.folder import PublishedWeights
from ..weights.state_dicts import StateDict

_CLASSES = 565
_convert = without_prefix("module.")


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    return checkpoint_source(context, CheckpointCatalogue("custom", "ecoset", _NETWORKS))


def _network(builder: str, **options: Any) -> Any:
    return partial(models.get_model, builder, weights=None, num_classes=_CLASSES, **options)


def _weights(osf_id: str, name: str) -> PublishedWeights:
    return PublishedWeights(f"https://osf.io/{osf_id}/download", cached_as=name)


def _convert_inception(state: StateDict) -> StateDict:
    """Remove Inception's training-only head."""
    return drop_keys(_convert(state), "AuxLogits.")


_NETWORKS: Mapping[str, Checkpoint] = {
    "Alexnet_ecoset": Checkpoint(
        _network("alexnet"), _weights("t6h3c", "Alexnet_ecoset"), 59_318_645, _convert
    ),
    "VGG16_ecoset": Checkpoint(
        _network("vgg16"), _weights("z5uf3", "VGG16_ecoset"), 136_575_349, _convert
    ),
    "VGG16bn_ecoset": Checkpoint(
        _network("vgg16_bn"), _weights("fe7s5", "VGG16bn_ecoset"), 136_583_797, _convert
    ),
    "Resnet50_ecoset": Checkpoint(
        _network("resnet50"), _weights("gd9kn", "Resnet50_ecoset"), 24_665_717, _convert
    ),
    "Inception_ecoset": Checkpoint(
        _network("inception_v3", aux_logits=False, init_weights=True),
        _weights("zn24d", "Inception_ecoset"),
        22_943_253,
        _convert_inception,
    ),
}
"""VGG16 is cached under its own name; THINGSvision caches it under that of VGG16bn."""
