"""SHA-256 digests, by which uploads, images and PCAs are named."""

from __future__ import annotations

import re

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Tell whether a text is a digest as files are named by: 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None
