"""The options of what is stored on disk and collected in memory: uploads, PCAs, RDMs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ByteSize, Field

from ..written_values import MIB, Folder


class StorageOptions(BaseModel):
    """What is stored on disk and collected in memory: uploads, PCAs, RDMs."""

    max_upload_bytes: Annotated[
        ByteSize, Field(gt=0, description="maximum size of one uploaded file")
    ] = ByteSize(16 * 1024 * MIB)
    upload_quota: Annotated[
        ByteSize, Field(gt=0, description="disk quota of all uploaded files together")
    ] = ByteSize(64 * 1024 * MIB)
    warm_guests: Annotated[
        bool,
        Field(
            description="start the process that those of uploaded programs are forked from (about "
            "0.4 GB) at the start; off: with the first upload, which then waits seconds for it"
        ),
    ] = True
    pca_quota: Annotated[
        ByteSize, Field(ge=0, description="disk quota of all fitted PCAs together")
    ] = ByteSize(16 * 1024 * MIB)
    rdm_features_memory: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="host memory for the features of one RDM or PCA; features beyond it are "
            "spilled to disk; default: an eighth of the RAM, at most 1 GiB",
        ),
    ] = None
    rdm_memory: Annotated[
        ByteSize,
        Field(ge=0, description="host memory for the RDMs or the PCA of one call; 0: half the RAM"),
    ] = ByteSize(0)
    spill_dir: Annotated[
        Folder | None,
        Field(description="folder for spilled features; default: the system's temporary folder"),
    ] = None
    spill_quota: Annotated[
        ByteSize,
        Field(
            ge=0,
            description="disk space of the spilled features of all calls together; 0: four fifths "
            "of what the folder's disk has free at the start",
        ),
    ] = ByteSize(0)
