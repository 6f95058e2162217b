"""Makes token ids of texts by a tokenizer of the library `transformers`; knows no network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...errors import PreconditionError
from ...inputs import TEXT, InputSpec, InputTransform, Preprocessing, Text
from ..preprocessing.token_limit import check_token_count

TOKENIZED = ("input_ids", "attention_mask")
"""The rows of one text's input, in the library's words."""


class TextTokenizer:
    """A tokenizer, opened on first use, that pads every text to one length; threads may share it.

    `length` counts tokens with a text's start and its end.
    """

    def __init__(self, open_it: Callable[[], Any], length: int) -> None:
        self._open = open_it
        self._length = length
        # Tokenizers keep the settings of a call in themselves.
        self._lock = threading.Lock()

    def transform(self, called: str) -> InputTransform:
        """Return the transform of texts; it raises what opening raises when it is applied."""
        description = f"{self._length} token ids of {called} and their mask; no text is cut"
        preprocessing = Preprocessing(value_range="", description=description, channel_order="")
        spec = InputSpec((len(TOKENIZED), self._length), "int64", TEXT)
        return InputTransform(self.tokens, preprocessing, spec, takes=Text)

    def tokens(self, text: str) -> torch.Tensor:
        """Return ids and mask of a text, 2 x length of int64; raise where they are too many."""
        with self._lock:
            found = self._tokenizer(text, padding="max_length", max_length=self._length)
        ids = found["input_ids"]
        check_token_count(text, len(ids), self._length)
        # Models whose tokenizer makes no mask were trained to see the padding.
        return torch.tensor([ids, found.get("attention_mask", [1] * len(ids))])

    @cached_property
    def _tokenizer(self) -> Any:
        return self._open()


def open_tokenizer(folder: Path) -> Any:
    """Open the tokenizer in a folder.

    Raises PreconditionError where the folder has none that the library reads by itself.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise _no_tokenizer(folder) from error
    # Without its files, the library makes some tokenizers up from a few letters.
    if not any((folder / file).is_file() for file in tokenizer.vocab_files_names.values()):
        raise _no_tokenizer(folder)
    return tokenizer


def _no_tokenizer(folder: Path) -> PreconditionError:
    return PreconditionError(
        f"there is no tokenizer in {folder}; put the checkpoint's tokenizer.json and "
        "tokenizer_config.json there",
        field="model.name",
    )
