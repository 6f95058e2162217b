"""Architectures of torchvision, timm and transformers, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

Network = Callable[[], nn.Module]


@dataclass(frozen=True)
class Architecture:
    """One architecture, and the height and width of its images, pixels."""

    make: Network
    side: int = 64


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None, **options)


def _segmentation(name: str) -> nn.Module:
    return _torchvision(name, weights_backbone=None, num_classes=3, aux_loss=True)


def _small_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _transformers(name: str, **options: Any) -> nn.Module:
    import transformers

    kind = getattr(transformers, name)
    config = kind.config_class(**options)
    return kind(config)


_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}

_TORCHVISION: Mapping[str, Architecture] = {
    name: Architecture(partial(_torchvision, name), side)
    for name, side in {
        "alexnet": 64,
        "convnext_tiny": 32,
        "densenet121": 32,
        "efficientnet_b0": 32,
        "efficientnet_v2_s": 32,
        "inception_v3": 80,
        "mnasnet0_5": 32,
        "mobilenet_v2": 32,
        "mobilenet_v3_small": 32,
        "regnet_x_400mf": 32,
        "regnet_y_400mf": 32,
        "resnet18": 32,
        "resnet50": 32,
        "resnext50_32x4d": 32,
        "shufflenet_v2_x0_5": 32,
        "squeezenet1_1": 32,
        "swin_t": 64,
        "swin_v2_t": 64,
    }.items()
} | {
    "googlenet": Architecture(partial(_torchvision, "googlenet", init_weights=False)),
    "fcn_resnet50": Architecture(partial(_segmentation, "fcn_resnet50"), 32),
    "deeplabv3_mobilenet_v3_large": Architecture(
        partial(_segmentation, "deeplabv3_mobilenet_v3_large")
    ),
    "vit": Architecture(_small_vit, 32),
}

_TIMM: Mapping[str, Architecture] = {
    name: Architecture(partial(_timm, name, **options), side)
    for name, (side, options) in {
        "beit_base_patch16_224": (32, {"img_size": 32, "depth": 2}),
        "botnet26t_256": (256, {}),
        "cait_xxs24_224": (32, {"img_size": 32, "depth": 2}),
        "coat_tiny": (64, {"img_size": 64}),
        "coatnet_pico_rw_224": (224, {}),
        "convit_tiny": (32, {"img_size": 32, "depth": 12}),
        "convmixer_768_32": (32, {}),
        "convnext_atto": (32, {}),
        "convnextv2_atto": (32, {}),
        "crossvit_tiny_240": (240, {}),
        "cspresnet50": (32, {}),
        "davit_tiny": (64, {}),
        "deit_tiny_distilled_patch16_224": (32, {"img_size": 32}),
        "dla34": (32, {}),
        "edgenext_xx_small": (64, {}),
        "efficientformer_l1": (224, {}),
        "efficientvit_b0": (64, {}),
        "eva02_tiny_patch14_224": (28, {"img_size": 28}),
        "fastvit_t8": (64, {}),
        "focalnet_tiny_srf": (64, {}),
        "gernet_s": (32, {}),
        "ghostnet_100": (32, {}),
        "gmlp_s16_224": (224, {}),
        "hrnet_w18_small": (64, {}),
        "inception_next_atto": (64, {}),
        "levit_128s": (224, {}),
        "mixer_s32_224": (64, {"img_size": 64}),
        "mobilenetv3_small_050": (32, {}),
        "mobilenetv4_conv_small": (32, {}),
        "mobileone_s0": (32, {}),
        "mobilevit_xxs": (64, {}),
        "nest_tiny": (224, {}),
        "pit_ti_224": (224, {}),
        "poolformer_s12": (64, {}),
        "pvt_v2_b0": (64, {}),
        "regnetx_002": (32, {}),
        "repvgg_a0": (32, {}),
        "resmlp_12_224": (32, {"img_size": 32}),
        "resnet10t": (32, {}),
        "resnetv2_50": (32, {}),
        "rexnet_100": (32, {}),
        "selecsls42b": (64, {}),
        "sequencer2d_s": (224, {}),
        "swinv2_cr_tiny_ns_224": (64, {"img_size": 64, "window_size": 2}),
        "tnt_s_legacy_patch16_224": (32, {"img_size": 32, "depth": 2}),
        "twins_pcpvt_small": (64, {}),
        "vit_tiny_patch16_224": (32, {"img_size": 32}),
        "volo_d1_224": (64, {"img_size": 64}),
        "xcit_nano_12_p16_224": (32, {}),
    }.items()
}

_TRANSFORMERS: Mapping[str, Architecture] = {
    name: Architecture(partial(_transformers, name, **options), side)
    for name, (side, options) in {
        "BeitModel": (32, _VIT),
        "BitModel": (32, _STAGES | {"num_groups": 4}),
        "CLIPVisionModel": (32, _VIT),
        "ConvNextModel": (32, {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
        "ConvNextV2ForImageClassification": (
            32,
            {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        ),
        "Data2VecVisionModel": (32, _VIT),
        "DeiTModel": (32, _VIT),
        "Dinov2Model": (32, _VIT | {"mlp_ratio": 2}),
        "Dinov2WithRegistersModel": (32, _VIT | {"mlp_ratio": 2}),
        "FocalNetModel": (32, {"image_size": 32, "embed_dim": 8, "depths": [1, 1],
                               "focal_levels": [1, 1], "focal_windows": [3, 3],
                               "hidden_sizes": [8, 16]}),
        "IJepaModel": (32, _VIT),
        "MobileNetV1Model": (32, {"depth_multiplier": 0.25}),
        "MobileNetV2Model": (32, {"depth_multiplier": 0.35}),
        "PoolFormerModel": (64, {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
        "RegNetModel": (32, _STAGES | {"groups_width": 4}),
        "ResNetForImageClassification": (32, _STAGES),
        "SegformerModel": (64, {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
                                "num_attention_heads": [1, 1, 2, 2]}),
        "SiglipVisionModel": (32, _VIT),
        "SwinModel": (32, _SWIN),
        "Swinv2Model": (32, _SWIN),
        "ViTForImageClassification": (32, _VIT),
        "ViTModel": (32, _VIT),
    }.items()
}  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = {
    f"{library}/{name}": one
    for library, found in {
        "torchvision": _TORCHVISION,
        "timm": _TIMM,
        "transformers": _TRANSFORMERS,
    }.items()
    for name, one in found.items()
}
"""By library and name."""
