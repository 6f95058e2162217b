"""The options of images, of how long calls wait, and of what one person may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ByteSize, Field
from pydantic_settings import NoDecode

from ..written_values import MIB, split_roots


class PeopleOptions(BaseModel):
    """Images, how long calls wait, and what one person may use."""

    max_image_bytes: Annotated[
        ByteSize, Field(gt=0, description="maximum file size of one image")
    ] = ByteSize(64 * MIB)
    max_image_pixels: Annotated[int, Field(ge=1, description="maximum pixels of one image")] = (
        100_000_000
    )
    image_store: Annotated[
        ByteSize,
        Field(description="disk space of the cache of images that clients sent; 0: none"),
    ] = ByteSize(10 * 1024 * MIB)
    image_root: Annotated[
        list[str] | None,
        NoDecode,
        BeforeValidator(split_roots),
        Field(
            description="folders of images that users may request by relative path: FOLDER for all "
            "users, FOLDER=NAME:NAME:@GROUP for these; several are separated by commas, and names "
            "of images then begin with the folder's; default: none"
        ),
    ] = None
    lease_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="seconds after which a call that waits for its client, to send images or "
            "to read features, gives its model back until the client goes on",
        ),
    ] = 10.0
    person_device_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="seconds of the whole device that one person may use in an hour before "
            "their passes come after those of all others; 0: no limit",
        ),
    ] = 0.0
    person_images: Annotated[
        int,
        Field(
            ge=1,
            description="images of one person that are being prepared, wait, or whose features "
            "wait to be read, at a time; calls read no more then; new ones are refused",
        ),
    ] = 32_768
    person_memory: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="host memory of these images' inputs and features, of one person, and a "
            "quarter of it for files that wait to be decoded; default: a quarter of the RAM",
        ),
    ] = None
    person_calls: Annotated[
        int, Field(ge=1, description="calls that one person may have in progress at a time")
    ] = 256
    person_upload_quota: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="disk quota of the uploaded files of one person who has a name; default: a "
            "quarter of --upload-quota",
        ),
    ] = None
    person_pca_quota: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="disk quota of the PCAs of one person who has a name; default: a quarter "
            "of --pca-quota",
        ),
    ] = None
    person_image_store: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="disk space of the cached images of one person who has a name, whose own "
            "oldest are evicted beyond it; default: all of --image-store, where whoever has the "
            "most gives way",
        ),
    ] = None
    wait_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="seconds that a call waits for memory which models in use hold, before it "
            "is refused",
        ),
    ] = 600.0
    idle_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="seconds without use after which a model is evicted, so that other "
            "programs can have the device's memory; pinned models stay; 0: it stays until its "
            "memory is needed",
        ),
    ] = 0.0
    stall_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="seconds after which a call is ended whose client sends nothing while the "
            "server waits for its next message",
        ),
    ] = 600.0
