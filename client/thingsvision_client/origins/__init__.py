"""Where features came from: remembered with arrays, and told beside files; calls no server."""

from .description import (
    Request,
    changes_to_json,
    describe,
    provenance_fields,
    reduction_to_json,
)
from .document import (
    Content,
    file_sha256,
    origin_path,
    read_origin,
    write_contents,
    write_origin,
)
from .fingerprint import Fingerprint, fingerprint, fingerprinted
from .memory import origin_of, remember, remember_extraction

__all__ = [
    "Content",
    "Fingerprint",
    "Request",
    "changes_to_json",
    "describe",
    "file_sha256",
    "fingerprint",
    "fingerprinted",
    "origin_of",
    "origin_path",
    "provenance_fields",
    "read_origin",
    "reduction_to_json",
    "remember",
    "remember_extraction",
    "write_contents",
    "write_origin",
]
