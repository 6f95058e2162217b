"""The token layout of a transformer, read from its own attributes, whatever the model.

A network that processes an image as tokens has some special tokens first (class, distillation,
registers), then one token per patch. Its attributes, named by its library, say how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

_Rule = Callable[[Any], tuple[int, ...]]
"""Returns the fields of a part's TokenLayout; the last fields may be left out."""


@dataclass(frozen=True)
class TokenLayout:
    """How many special tokens precede how many patch tokens."""

    prefix_count: int
    patch_count: int
    has_patches_alone: bool = True
    """Whether a sequence with one token per patch consists of patch tokens."""
    has_class_token: bool = True
    """Whether the first special token is the class token; some networks have only registers."""

    def prefix_of(self, shape: tuple[int, ...]) -> int | None:
        """Return the number of special tokens in a module's output; None if not a sequence."""
        if len(shape) != 2:
            return None
        by_length = {self.patch_count: 0} if self.has_patches_alone else {}
        by_length[self.patch_count + self.prefix_count] = self.prefix_count
        return by_length.get(shape[0])


def token_layouts(network: nn.Module, image_shape: tuple[int, ...] = ()) -> dict[str, TokenLayout]:
    """Return the layout of each part of a network that processes an image as tokens, by name.

    `image_shape` is the shape of one input image: some networks take any.
    """
    parts = network.named_modules()
    found = {name: next(_layouts(part, image_shape), None) for name, part in parts}
    return {name: layout for name, layout in found.items() if layout is not None}


def _layouts(part: nn.Module, image_shape: tuple[int, ...]) -> Iterator[TokenLayout]:
    rules: tuple[_Rule, ...] = (*_RULES, partial(_transformers, image_shape))
    for read in rules:
        try:
            prefix_count, patch_count, *alone = read(part)
            yield TokenLayout(int(prefix_count), int(patch_count), *map(bool, alone))
        except (AttributeError, TypeError, ValueError):  # a part without this library's attributes
            continue


def _timm(part: Any) -> tuple[int, int, bool, bool]:
    has_class_token = getattr(part, "cls_token", None) is not None
    return part.num_prefix_tokens, part.patch_embed.num_patches, True, has_class_token


def _timm_stem(part: Any) -> tuple[int, int]:
    """Mixers of timm have no special tokens; the stem makes their patches."""
    return 0, part.stem.num_patches


def _torchvision(part: Any) -> tuple[int, int]:
    prefix_count = part.class_token.shape[1]
    return prefix_count, part.seq_length - prefix_count


def _open_clip(part: Any) -> tuple[int, int, bool]:
    """CoCa may pool to as many queries as patches; the class token stays with the patches."""
    prefix_count = 1 if part.class_embedding is not None else 0
    return prefix_count, part.positional_embedding.shape[0] - prefix_count, False


def _stage(part: Any) -> tuple[int, int]:
    """Blocks of a pyramid (Swin) store the grid of their patches and have no other tokens."""
    rows, columns = part.input_resolution
    return 0, rows * columns


def _transformers(image_shape: tuple[int, ...], part: Any) -> tuple[int, int, bool, bool]:
    """Embeddings hold special tokens as parameters, and make patches with a convolution."""
    embeddings = part.embeddings
    patches = getattr(embeddings, "patch_embeddings", None) or embeddings.patch_embedding
    (_, height, width), (down, right) = image_shape, getattr(patches, "projection", patches).stride
    special = [name for name in _SPECIAL_TOKENS if getattr(embeddings, name, None) is not None]
    registers = getattr(embeddings, "register_tokens", None)
    register_count = 0 if registers is None else registers.shape[1]
    patch_count = (height // down) * (width // right)
    has_class_token = not _CLASS_TOKENS.isdisjoint(special)
    return len(special) + register_count, patch_count, True, has_class_token


_CLASS_TOKENS = frozenset(("cls_token", "class_embedding"))
_SPECIAL_TOKENS = (*sorted(_CLASS_TOKENS), "distillation_token")
"""Names of parameters that are one token each, in the library `transformers`."""

_RULES: tuple[_Rule, ...] = (
    _timm,
    _timm_stem,
    _torchvision,
    _open_clip,
    _stage,
)
