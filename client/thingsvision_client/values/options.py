"""The options of an extraction, as a user chooses them."""

from __future__ import annotations

from dataclasses import dataclass

from .preprocessing import PreprocessingOverrides
from .reductions import Reduction


@dataclass(frozen=True)
class ExtractOptions:
    """What a user may choose about an extraction; None leaves it as it is.

    `token_extraction` is a key of `tokens.TOKEN_EXTRACTIONS`, `precision` one of
    `reductions.PRECISIONS`, `dtype` that of the features, a key of `reductions.ELEMENT_TYPES`,
    `memory_format` one of `reductions.MEMORY_FORMATS`.
    """

    batch_size: int | None = None
    token_extraction: str | None = None
    preprocessing: PreprocessingOverrides | None = None
    precision: str = "float32"
    dtype: str = "float32"
    deterministic: bool = False
    reduction: Reduction | None = None
    memory_format: str = "contiguous"
    compiled: bool = False
