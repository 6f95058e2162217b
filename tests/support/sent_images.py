"""The messages of images, as a call without a cache of images sends them."""

from __future__ import annotations

from collections.abc import Iterator

from thingsvision_client.images.queue import ImageQueue
from thingsvision_client.rpc.image_stream import ImageStream
from thingsvision_proto.model_id import ANY_MODEL
from thingsvision_proto.v1 import thingsvision_pb2 as pb


def messages(queue: ImageQueue) -> Iterator[pb.Image]:
    return ImageStream(queue, None, ANY_MODEL).messages()
