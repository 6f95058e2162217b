"""The arithmetic of a forward pass, by the names of the contract; knows no framework."""

from __future__ import annotations

from enum import Enum


class Precision(Enum):
    """How exactly a pass computes; all but the first trade exactness for speed."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
