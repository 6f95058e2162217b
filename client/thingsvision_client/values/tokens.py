"""What can be selected from a token sequence, by the names that users give."""

from __future__ import annotations

from thingsvision_proto.v1 import thingsvision_pb2 as pb

TOKEN_EXTRACTIONS = {
    "cls_token": pb.TOKEN_EXTRACTION_CLS_TOKEN,
    "avg_pool": pb.TOKEN_EXTRACTION_AVG_POOL,
    "cls_token+avg_pool": pb.TOKEN_EXTRACTION_CLS_TOKEN_AVG_POOL,
}
"""The class token, the mean of the tokens of patches, and both side by side."""

TOKEN_NAMES = {number: name for name, number in TOKEN_EXTRACTIONS.items()}
