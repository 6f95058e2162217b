"""What can be selected from a token sequence, by the names that users give."""

from __future__ import annotations

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import InvalidRequestError

TOKEN_EXTRACTIONS = {
    "cls_token": pb.TOKEN_EXTRACTION_CLS_TOKEN,
    "avg_pool": pb.TOKEN_EXTRACTION_AVG_POOL,
    "cls_token+avg_pool": pb.TOKEN_EXTRACTION_CLS_TOKEN_AVG_POOL,
}
"""The class token, the mean of the tokens of patches, and both side by side."""

TOKEN_NAMES = {number: name for name, number in TOKEN_EXTRACTIONS.items()}


def token_extraction_number(name: str | None) -> pb.TokenExtraction:
    """Return the contract's number; None stands for all tokens. Raises InvalidRequestError."""
    if name is None:
        return pb.TOKEN_EXTRACTION_UNSPECIFIED
    if not isinstance(name, str) or name not in TOKEN_EXTRACTIONS:
        valid = ", ".join(TOKEN_EXTRACTIONS)
        raise InvalidRequestError(f"`token_extraction` must be one of {valid}, got {name!r}.")
    return TOKEN_EXTRACTIONS[name]
