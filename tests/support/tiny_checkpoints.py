"""Tiny checkpoints as `save_pretrained` writes them, and how the library itself loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel
from transformers.utils import logging

SIDE = 32
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {key: VIT[key] for key in VIT if key not in ("image_size", "patch_size")} | {
    "vocab_size": 8,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SQUARE = {"height": SIDE, "width": SIDE}
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": SQUARE}

logging.set_verbosity_error()
logging.disable_progress_bar()


def vit() -> Any:
    """Return a classifier: AutoModel drops its head, and adds a pooler."""
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))


def dinov2() -> Any:
    """Return a network that was trained with larger images than its processor makes."""
    config = {key: VIT[key] for key in VIT if key != "intermediate_size"} | {"image_size": 64}
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**config))


def clip() -> Any:
    config = transformers.CLIPConfig(vision_config=VIT, text_config=TEXT, projection_dim=16)
    return transformers.CLIPModel(config)


def swin() -> Any:
    sizes = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    config = transformers.SwinConfig(image_size=SIDE, patch_size=4, **sizes)
    return transformers.SwinModel(config)


def convnext() -> Any:
    config = transformers.ConvNextV2Config(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextV2Model(config)


def resnet() -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    return transformers.ResNetModel(transformers.ResNetConfig(layer_type="basic", **sizes))


CHECKPOINTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "tiny-vit": (vit, transformers.ViTImageProcessor(size=SQUARE)),
    "deit": (
        lambda: transformers.DeiTModel(transformers.DeiTConfig(**VIT)),
        transformers.DeiTImageProcessor(**CROPPED),
    ),
    "org/dino": (dinov2, transformers.BitImageProcessor(**CROPPED, resample=3)),
    "clip": (clip, transformers.CLIPImageProcessor(**CROPPED)),
    "siglip": (
        lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VIT)),
        transformers.SiglipImageProcessor(size=SQUARE),
    ),
    "swin": (swin, transformers.ViTImageProcessor(size=SQUARE)),
    "convnext": (convnext, transformers.ConvNextImageProcessor(size={"shortest_edge": 64})),
    "resnet": (resnet, transformers.ConvNextImageProcessor(size={"shortest_edge": 64})),
}


def save(name: str, folder: Path) -> None:
    network, processor = CHECKPOINTS[name]
    torch.manual_seed(0)
    network().save_pretrained(folder)
    processor.save_pretrained(folder)


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer with five words."""
    words = ["<pad>", "<start>", "<end>", "a", "grey", "cat", "sleeps", "<unknown>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = [("<start>", 1), ("<end>", 2)]
    tokenizer.post_processor = TemplateProcessing("<start> $A <end>", special_tokens=special)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(folder)


def at(folder: Path, name: str) -> Path:
    return folder / "transformers" / name


def direct(path: Path) -> Any:
    """Return the network as the library itself loads it."""
    network = AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32)
    # PyTorch's own attention has another kernel for weights that need no gradient.
    return network.eval().requires_grad_(False)


def save_all(root: Path) -> None:
    """Save every checkpoint into a folder of weights; one has a tokenizer."""
    for name in CHECKPOINTS:
        save(name, at(root, name))
    save_tokenizer(at(root, "clip"))
