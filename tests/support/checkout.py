"""Where this checkout and the scripts beside this file lie."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
CHECKOUT = SUPPORT.parents[1]
