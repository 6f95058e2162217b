"""The origin of features: remembered with arrays, and written beside files."""

from .description import (
    Request,
    changes_to_json,
    chosen_options,
    describe,
    options_to_json,
    provenance_fields,
)
from .document import (
    Content,
    file_sha256,
    read_origin,
    write_contents,
    write_origin,
)
from .fingerprint import Fingerprint, fingerprint_of, record_fingerprints
from .memory import OriginRecorder, origin_of, remember, remember_extraction

__all__ = [
    "Content",
    "Fingerprint",
    "OriginRecorder",
    "Request",
    "changes_to_json",
    "chosen_options",
    "describe",
    "file_sha256",
    "fingerprint_of",
    "options_to_json",
    "origin_of",
    "provenance_fields",
    "read_origin",
    "record_fingerprints",
    "remember",
    "remember_extraction",
    "write_contents",
    "write_origin",
]
