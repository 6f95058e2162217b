"""Makes token ids of texts as open_clip does, but cuts none off; knows no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ....errors import WeightsMissingError
from ....inputs import TEXT, InputSpec, InputTransform, Preprocessing, Text
from ...base import ModelKey, Pretrained
from ...preprocessing.token_limit import check_token_count
from ...weights.folder import PublishedWeights, WeightsFolder
from .variants import Variant

_TOKENIZER_FILES = (
    ("tokenizer_config.json",),
    ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model"),
)
"""What a tokenizer of the hub is read from: of each row one file."""

_ADVICE = "Shorten it: open_clip itself would cut off its end without a word"


class TextTokenizer:
    """The tokenizer of one variant, opened on first use; threads may share it."""

    def __init__(self, variant: Variant, weights: WeightsFolder) -> None:
        self._variant = variant
        self._weights = weights
        # The tokenizers of the hub keep the settings of a call in themselves.
        self._lock = threading.Lock()

    def transform(self) -> InputTransform:
        """Return the transform of texts; it may raise WeightsMissingError when it is applied."""
        length = self._variant.context_length
        origin = self._variant.text.get("hf_tokenizer_name") or "CLIP's own byte pairs"
        description = f"{length} token ids of {origin}; longer texts are refused"
        preprocessing = Preprocessing(value_range="", description=description, channel_order="")
        spec = InputSpec((length,), "int64", TEXT)
        return InputTransform(self.token_ids, preprocessing, spec, takes=Text)

    def token_ids(self, text: str) -> torch.Tensor:
        """Return a text's token ids, [context length] of int64; raise where they are too many."""
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


def _count_of_hub(tokenizer: Any, text: str) -> int:
    """Count as `HFTokenizer` does: in its mode `clips` it adds start, end and class itself."""
    own = 3 if tokenizer.tokenizer_mode == "clips" else 0
    ids = tokenizer.tokenizer(tokenizer.clean_fn(text), add_special_tokens=not own).input_ids
    return len(ids) + own


_COUNTERS: Mapping[str, Callable[[Any, str], int]] = {
    "SimpleTokenizer": _count_byte_pairs,
    "HFTokenizer": _count_of_hub,
}


def hub_folder(
    weights: WeightsFolder,
    repository: str,
    files: tuple[tuple[str, ...], ...],
    purpose: str,
) -> Path:
    """Return the folder of a hub's repository that has these files (of each row one).

    Raises WeightsMissingError where it is neither in a cache nor may be fetched.
    """
    key = ModelKey("huggingface", repository, Pretrained())
    try:
        found = [weights.locate(key, PublishedWeights("", repository, row)) for row in files]
    except WeightsMissingError as error:
        listed = ", ".join("/".join((repository, row[0])) for row in files)
        raise WeightsMissingError(
            f"for {purpose}, this model needs files of the Hugging Face repository {repository} "
            f"that are not on this server, and it could not fetch them: {listed}. Put the "
            f"repository into {weights.root / 'huggingface' / 'hub'} as huggingface_hub caches "
            "it, or start the server with --allow-download",
            field="model.name",
            subject=repository,
        ) from error
    return found[0].parent
