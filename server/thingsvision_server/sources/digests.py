"""SHA-256 digests, which name uploads, images and PCAs."""

from __future__ import annotations

import re

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Return whether a text is a SHA-256 as files are named: 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None
