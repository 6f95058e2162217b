"""Turns texts into token ids with a tokenizer of the library `transformers`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...errors import PreconditionError
from ...inputs import TEXT, InputSpec, InputTransform, Preprocessing, Text
from ..preprocessing.token_limit import check_text_length, check_token_count
from .folders import LOCAL_ONLY

TOKENIZED = ("input_ids", "attention_mask")
"""The rows of one text's input, by the library's names."""


class TextTokenizer:
    """A tokenizer, opened on first use, that pads every text to one length; thread-safe.

    `length` is in tokens and includes the start and end tokens.
    """

    def __init__(self, open_it: Callable[[], Any], length: int) -> None:
        self._open = open_it
        self._length = length
        # A call changes a tokenizer's own settings.
        self._lock = threading.Lock()

    def transform(self, called: str) -> InputTransform:
        """Return the transform of texts; applying it raises the errors of opening the tokenizer."""
        description = (
            f"{self._length} token ids of {called} and their mask; texts are never truncated"
        )
        return text_transform(self.tokenize, description, (len(TOKENIZED), self._length))

    def tokenize(self, text: str) -> torch.Tensor:
        """Return a text's ids and mask, int64 [2, length]; raise ImageError if it is too long."""
        with self._lock:
            found = self._tokenizer(text, padding="max_length", max_length=self._length)
        ids = found["input_ids"]
        check_token_count(text, len(ids), self._length)
        # Models whose tokenizer returns no mask were trained to attend to the padding.
        return torch.tensor([ids, found.get("attention_mask", [1] * len(ids))])

    @cached_property
    def _tokenizer(self) -> Any:
        return self._open()


def text_transform(
    tokenize: Callable[[str], torch.Tensor], description: str, shape: tuple[int, ...]
) -> InputTransform:
    """Return the transform from a text to its token ids, int64 of this shape."""

    def check_and_tokenize(text: str) -> torch.Tensor:
        check_text_length(text)
        return tokenize(text)

    preprocessing = Preprocessing(value_range="", description=description, channel_order="")
    return InputTransform(
        check_and_tokenize, preprocessing, InputSpec(shape, "int64", TEXT), takes=Text
    )


def open_tokenizer(folder: Path) -> Any:
    """Open the tokenizer in a folder.

    Raises PreconditionError if the folder has none that the library can read without extra code.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL_ONLY)
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise _no_tokenizer(folder) from error
    # For some kinds, the library makes up a tokenizer of a few letters if the files are missing.
    if not any((folder / file).is_file() for file in tokenizer.vocab_files_names.values()):
        raise _no_tokenizer(folder)
    return tokenizer


def _no_tokenizer(folder: Path) -> PreconditionError:
    return PreconditionError(
        f"there is no tokenizer in {folder}; put the checkpoint's tokenizer.json and "
        "tokenizer_config.json there",
        field="model.name",
    )
