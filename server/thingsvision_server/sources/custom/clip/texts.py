"""Turns texts into token ids as open_clip does, but rejects long texts instead of truncating."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ....errors import WeightsMissingError
from ....inputs import InputTransform
from ...base import ModelKey, Pretrained
from ...hugging_face.text_tokenizers import text_transform
from ...preprocessing.token_limit import check_token_count
from ...weights.folder import PublishedWeights, WeightsFolder
from .variants import Variant

_TOKENIZER_FILES = (
    ("tokenizer_config.json",),
    ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model"),
)
"""The files that a tokenizer from the hub needs: one of each row."""

_ADVICE = "Shorten it: open_clip itself would truncate it silently"


class TextTokenizer:
    """The tokenizer of one variant, opened on first use; thread-safe."""

    def __init__(self, variant: Variant, weights: WeightsFolder) -> None:
        self._variant = variant
        self._weights = weights
        # A call changes the own settings of a tokenizer from the hub.
        self._lock = threading.Lock()

    def transform(self) -> InputTransform:
        """Return the transform of texts; applying it may raise WeightsMissingError."""
        length = self._variant.context_length
        origin = self._variant.text.get("hf_tokenizer_name") or "CLIP's own byte pairs"
        description = f"{length} token ids of {origin}; longer texts are rejected"
        return text_transform(self.tokenize, description, (length,))

    def tokenize(self, text: str) -> torch.Tensor:
        """Return a text's token ids, int64 [context length]; raise ImageError if it is too long."""
        with self._lock:
            count = _COUNTERS[type(self._tokenizer).__name__](self._tokenizer, text)
            check_token_count(text, count, self._variant.context_length, advice=_ADVICE)
            ids: torch.Tensor = self._tokenizer([text])[0]
            return ids

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        settings = self._variant.text
        repository = settings.get("hf_tokenizer_name")
        if not repository:
            return open_clip.get_tokenizer(self._variant.architecture)
        folder = hub_folder(self._weights, repository, _TOKENIZER_FILES, purpose="texts")
        return open_clip.tokenizer.HFTokenizer(
            str(folder),
            context_length=self._variant.context_length,
            tokenizer_mode=settings.get("tokenizer_mode"),
            **settings.get("tokenizer_kwargs", {}),
        )


def _count_byte_pairs(tokenizer: Any, text: str) -> int:
    return len(tokenizer.encode(text)) + 2


def _count_hub_tokens(tokenizer: Any, text: str) -> int:
    """Count as `HFTokenizer` does: in its mode `clips` it adds start, end and class itself."""
    added = 3 if tokenizer.tokenizer_mode == "clips" else 0
    ids = tokenizer.tokenizer(tokenizer.clean_fn(text), add_special_tokens=not added).input_ids
    return len(ids) + added


_COUNTERS: Mapping[str, Callable[[Any, str], int]] = {
    "SimpleTokenizer": _count_byte_pairs,
    "HFTokenizer": _count_hub_tokens,
}


def hub_folder(
    weights: WeightsFolder,
    repository: str,
    files: tuple[tuple[str, ...], ...],
    purpose: str,
) -> Path:
    """Return the folder of a hub repository that has these files (one of each row).

    Raises WeightsMissingError if it is neither in a cache nor can be fetched.
    """
    key = ModelKey("huggingface", repository, Pretrained())
    try:
        found = [weights.locate(key, PublishedWeights("", repository, row)) for row in files]
    except WeightsMissingError as error:
        listed = ", ".join("/".join((repository, row[0])) for row in files)
        raise WeightsMissingError(
            f"for {purpose}, this model needs files from the Hugging Face repository {repository} "
            f"that are not on this server and could not be fetched: {listed}. Put the repository, "
            f"as huggingface_hub caches it, into {weights.hub_cache}, or {_remedy(weights)}",
            field="model.name",
            subject=repository,
        ) from error
    return found[0].parent


def _remedy(weights: WeightsFolder) -> str:
    if weights.allows_download:
        return "let the server reach the hub, which did not send them"
    return "start the server with --allow-download"
