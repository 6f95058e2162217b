"""The text of a token, `tv_<id>_<secret>`: made from random bits, and known by its SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_DIGITS = 8
_SECRET_BITS = 256
_SECRET_DIGITS = 43
"""62 ** 43 is more than 2 ** 256."""

_TOKEN = re.compile(rf"tv_([0-9A-Za-z]{{1,32}})_[0-9A-Za-z]{{{_SECRET_DIGITS}}}")
_SHOWN_TOKEN = re.compile(r"(tv_[0-9A-Za-z]{1,32}_)[0-9A-Za-z]{16,}")
_NO_DIGEST = "0" * 64


def new_token() -> tuple[str, str]:
    """Return the id and the text of a new token of 256 random bits."""
    token_id = "".join(secrets.choice(_DIGITS) for _ in range(_ID_DIGITS))
    number, digits = secrets.randbits(_SECRET_BITS), []
    for _ in range(_SECRET_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return token_id, f"tv_{token_id}_{''.join(reversed(digits))}"


def id_of(token: str) -> str | None:
    """Return the id in a token; None for a text that is not a token."""
    found = _TOKEN.fullmatch(token)
    return found[1] if found else None


def hide_tokens(text: str) -> str:
    """Return a text with `***` for the secrets of tokens: somebody may send one as a model's name.

    What only looks like a token is hidden as well.
    """
    return _SHOWN_TOKEN.sub(r"\1***", text)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal digits.

    A slow hash would protect guessable passwords, which tokens are not, and would let anybody keep
    the server busy.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def has_digest(token: str, digest: str | None) -> bool:
    """Return whether a token has that digest, in the same time for any; None is never right."""
    return hmac.compare_digest(digest_of(token), digest or _NO_DIGEST) and digest is not None
