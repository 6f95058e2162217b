"""The folders of this checkout and of the scripts beside this file."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
CHECKOUT = SUPPORT.parents[1]
