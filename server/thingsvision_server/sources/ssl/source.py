"""The source `ssl`: self-supervised networks.

The architectures come from torchvision and timm. A network ends where the published one does: a
ResNet-50 with `avgpool` (its `fc` is the identity on 2048 values), a transformer with its class
token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
from torch import nn
from torchvision import models

from ..catalogues.checkpoints import Checkpoint, CheckpointCatalogue, checkpoint_source
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..weights.folder import PublishedWeights
from ..weights.state_dicts import StateDict
from .conversions import dino_resnet, dinov2, mae, vissl, xcit

_SITE = "https://dl.fbaipublicfiles.com"

_NO_TINY = (
    "THINGSvision's README lists it, but its code can't load it: no weights of that size were "
    "ever published. Use dino-vit-small-p8 or dino-vit-small-p16."
)
_REFUSED: Mapping[str, str] = dict.fromkeys(
    ("dino-vit-tiny", "dino-vit-tiny-p8", "dino-vit-tiny-p16"), _NO_TINY
)


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the source."""
    catalogue = CheckpointCatalogue("ssl", "published", _NETWORKS)
    return checkpoint_source(context, catalogue, _REFUSED)


def _resnet50() -> nn.Module:
    network: nn.Module = models.resnet50(weights=None)
    network.fc = nn.Identity()
    return network


def _resnet(
    path: str, *, convert: Callable[[StateDict], StateDict] = dict, cached_as: str = ""
) -> Checkpoint:
    weights = PublishedWeights(f"{_SITE}/{path}", cached_as=cached_as)
    return Checkpoint(_resnet50, weights, 23_508_032, convert)


def _vissl(name: str, path: str) -> Checkpoint:
    """Return a checkpoint of VISSL, cached by our name: three of its files have the same name."""
    return _resnet(f"vissl/model_zoo/{path}", convert=vissl, cached_as=f"{name}.torch")


def _transformer(
    architecture: str,
    path: str,
    parameter_count: int,
    *,
    convert: Callable[[StateDict], StateDict] = dict,
    **options: Any,
) -> Checkpoint:
    build = partial(timm.create_model, architecture, num_classes=0, **options)
    return Checkpoint(build, PublishedWeights(f"{_SITE}/{path}"), parameter_count, convert)


def _dino(
    architecture: str, file: str, count: int, convert: Callable[[StateDict], StateDict] = dict
) -> Checkpoint:
    return _transformer(architecture, f"dino/{file}/{file}.pth", count, convert=convert)


def _dinov2(size: str, letter: str, parameter_count: int) -> Checkpoint:
    """Return a checkpoint built for the preprocessing's 224 pixels, not the 518 of training."""
    file = f"dinov2/dinov2_vit{letter}14/dinov2_vit{letter}14_pretrain.pth"
    architecture = f"vit_{size}_patch14_dinov2"
    return _transformer(architecture, file, parameter_count, convert=dinov2, img_size=224)


def _mae(size: str, patch: int, parameter_count: int) -> Checkpoint:
    file = f"mae/pretrain/mae_pretrain_vit_{size}.pth"
    return _transformer(f"vit_{size}_patch{patch}_224", file, parameter_count, convert=mae)


_NETWORKS: Mapping[str, Checkpoint] = {
    "simclr-rn50": _vissl(
        "simclr-rn50",
        "simclr_rn50_800ep_simclr_8node_resnet_16_07_20.7e8feed1/"
        "model_final_checkpoint_phase799.torch",
    ),
    "mocov2-rn50": _vissl(
        "mocov2-rn50",
        "moco_v2_1node_lr.03_step_b32_zero_init/model_final_checkpoint_phase199.torch",
    ),
    "jigsaw-rn50": _vissl(
        "jigsaw-rn50",
        "jigsaw_rn50_in1k_ep105_perm2k_jigsaw_8gpu_resnet_17_07_20.db174a43/"
        "model_final_checkpoint_phase104.torch",
    ),
    "rotnet-rn50": _vissl(
        "rotnet-rn50",
        "rotnet_rn50_in1k_ep105_rotnet_8gpu_resnet_17_07_20.46bada9f/"
        "model_final_checkpoint_phase125.torch",
    ),
    "swav-rn50": _vissl(
        "swav-rn50",
        "swav_in1k_rn50_800ep_swav_8node_resnet_27_07_20.a0a6b676/"
        "model_final_checkpoint_phase799.torch",
    ),
    "pirl-rn50": _vissl(
        "pirl-rn50",
        "pirl_jigsaw_4node_pirl_jigsaw_4node_resnet_22_07_20.34377f59/"
        "model_final_checkpoint_phase799.torch",
    ),
    "barlowtwins-rn50": _resnet(
        "barlowtwins/ep1000_bs2048_lrw0.2_lrb0.0048_lambd0.0051/resnet50.pth",
        cached_as="barlowtwins_resnet50.pth",
    ),
    "vicreg-rn50": _resnet("vicreg/resnet50.pth", cached_as="vicreg_resnet50.pth"),
    "dino-rn50": _resnet(
        "dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth", convert=dino_resnet
    ),
    "dino-vit-small-p8": _dino("vit_small_patch8_224", "dino_deitsmall8_pretrain", 21_670_272),
    "dino-vit-small-p16": _dino("vit_small_patch16_224", "dino_deitsmall16_pretrain", 21_665_664),
    "dino-vit-base-p8": _dino("vit_base_patch8_224", "dino_vitbase8_pretrain", 85_807_872),
    "dino-vit-base-p16": _dino("vit_base_patch16_224", "dino_vitbase16_pretrain", 85_798_656),
    "dino-xcit-small-12-p8": _dino(
        "xcit_small_12_p8_224", "dino_xcit_small_12_p8_pretrain", 25_828_032, xcit
    ),
    "dino-xcit-small-12-p16": _dino(
        "xcit_small_12_p16_224", "dino_xcit_small_12_p16_pretrain", 25_868_304, xcit
    ),
    "dino-xcit-medium-24-p8": _dino(
        "xcit_medium_24_p8_224", "dino_xcit_medium_24_p8_pretrain", 83_810_624, xcit
    ),
    "dino-xcit-medium-24-p16": _dino(
        "xcit_medium_24_p16_224", "dino_xcit_medium_24_p16_pretrain", 83_882_752, xcit
    ),
    "dinov2-vit-small-p14": _dinov2("small", "s", 21_628_800),
    "dinov2-vit-base-p14": _dinov2("base", "b", 85_724_928),
    "dinov2-vit-large-p14": _dinov2("large", "l", 303_227_904),
    "dinov2-vit-giant-p14": _dinov2("giant", "g", 1_134_769_664),
    "mae-vit-base-p16": _mae("base", 16, 85_798_656),
    "mae-vit-large-p16": _mae("large", 16, 303_301_632),
    "mae-vit-huge-p14": _mae("huge", 14, 630_764_800),
}
