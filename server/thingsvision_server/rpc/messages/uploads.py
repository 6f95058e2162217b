"""Converts between messages about uploads and the types of the upload store."""

from __future__ import annotations

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...sources.uploads.formats import FORMATS
from ...sources.uploads.records import UploadRecord
from ...sources.uploads.upload import Announcement
from .models import preprocessing_message, read_preprocessing


def announcement(header: pb.UploadWeightsHeader, sender: str) -> Announcement:
    """Return the announcement of the file that follows a sender's header."""
    has_preprocessing = header.HasField("preprocessing")
    preprocessing = read_preprocessing(header.preprocessing) if has_preprocessing else None
    return Announcement(
        header.sha256,
        header.size_bytes,
        header.name,
        preprocessing=preprocessing,
        sender=sender,
        is_shared=header.share,
    )


def upload_message(record: UploadRecord) -> pb.Upload:
    """Return the message of an uploaded file."""
    declared = record.preprocessing
    return pb.Upload(
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        format=record.format,
        name=record.name,
        preprocessing=None if declared is None else preprocessing_message(declared),
        uploaded_unix_seconds=record.uploaded_at,
        ownership=pb.Ownership(owners=record.owners, shared=record.is_shared),
        is_model=record.format in FORMATS and FORMATS[record.format].is_model,
    )
