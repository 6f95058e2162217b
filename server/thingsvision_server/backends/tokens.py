"""How the tokens of a transformer lie, read off its own structure; knows no model's name.

A network that sees an image as tokens has some special ones first (class, distillation,
registers), then one per patch. How many, its own attributes say, in the words of its library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class TokenLayout:
    """Special tokens before those of patches."""

    prefix_count: int
    patch_count: int

    def prefix_of(self, shape: tuple[int, ...]) -> int | None:
        """Return how many special tokens a module's output has; None where it is no sequence."""
        if len(shape) != 2:
            return None
        by_length = {self.patch_count: 0, self.patch_count + self.prefix_count: self.prefix_count}
        return by_length.get(shape[0])


def token_layouts(network: nn.Module) -> dict[str, TokenLayout]:
    """Return the layouts of a network's parts that see an image as tokens, by the parts' names."""
    found = {name: next(_layouts(part), None) for name, part in network.named_modules()}
    return {name: layout for name, layout in found.items() if layout is not None}


def _layouts(part: nn.Module) -> Iterator[TokenLayout]:
    for read in _RULES:
        try:
            yield TokenLayout(*map(int, read(part)))
        except (AttributeError, TypeError):  # not built in this rule's words
            continue


def _timm(part: Any) -> tuple[int, int]:
    return part.num_prefix_tokens, part.patch_embed.num_patches


def _timm_stem(part: Any) -> tuple[int, int]:
    """Mixers of timm have no special tokens; their patches are made by the stem."""
    return 0, part.stem.num_patches


def _torchvision(part: Any) -> tuple[int, int]:
    prefix_count = part.class_token.shape[1]
    return prefix_count, part.seq_length - prefix_count


def _open_clip(part: Any) -> tuple[int, int]:
    prefix_count = 1 if part.class_embedding is not None else 0
    return prefix_count, part.positional_embedding.shape[0] - prefix_count


def _transformers(part: Any) -> tuple[int, int]:
    """Embeddings hold the special tokens as parameters; the config's size is the default input."""
    embeddings = part.embeddings
    patch_count = embeddings.patch_embeddings.num_patches
    special = (getattr(embeddings, name, None) for name in ("cls_token", "distillation_token"))
    prefix_count = sum(token is not None for token in special)
    registers = getattr(embeddings, "register_tokens", None)
    return prefix_count + (0 if registers is None else registers.shape[1]), patch_count


_RULES: tuple[Callable[[Any], tuple[int, int]], ...] = (
    _timm,
    _timm_stem,
    _torchvision,
    _open_clip,
    _transformers,
)
