"""What a server can run and which images it has: each method is one call."""

from __future__ import annotations

import re
from collections.abc import Iterable
from glob import escape

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.cards import Table
from ..errors import InvalidRequestError
from ..images.image import SentImage, server_image
from ..values.cached_images import CachedImage, DeletedImages
from ..values.model import Model, as_model
from ..values.preprocessing import Preprocessing
from ..values.records import MODEL_COLUMNS, MODULE_COLUMNS, ModelInfo, ModuleInfo, to_record
from .call import Caller
from .connection import Connection


class Listings:
    """Lists models, modules and images; the methods are those of `Client` by the same names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def models(self, source: str = "", name_glob: str = "") -> Table[ModelInfo]:
        """Return the models of one source, or of all, whose names match a glob."""
        request = pb.ListModelsRequest(source=source, name_glob=name_glob)
        replies = self._caller.listen(self._connection.stubs.features.ListModels, request)
        return Table((to_record(message) for message in replies), MODEL_COLUMNS)

    def modules(self, model: Model | str) -> Table[ModuleInfo]:
        """Return the modules of a model in order of execution."""
        request = pb.ListModulesRequest(model=as_model(model).to_spec())
        method, key = self._connection.stubs.features.ListModules, model_id(request.model)
        replies = self._caller.listen(method, request, key)
        return Table((to_record(message) for message in replies), MODULE_COLUMNS)

    def preprocessing(self, model: Model | str) -> Preprocessing | None:
        """Return the preprocessing of a model's pretrained weights, if it is listed."""
        wanted = as_model(model)
        tag = None if wanted.weights == "default" else wanted.weights
        for info in self.models(wanted.source, escape(wanted.name)):
            for entry in info.pretrained:
                if entry.tag == tag or (tag is None and entry.is_default):
                    return entry.preprocessing
        return None

    def server_images(self, folder: str = "") -> list[SentImage]:
        """Return the images below a folder of the server's image root."""
        request = pb.ListImagesRequest(folder=folder)
        replies = self._caller.listen(self._connection.stubs.images.ListImages, request)
        return [server_image(reply.server_path) for reply in replies]

    def cached_images(self) -> list[CachedImage]:
        """Return the images in the server's cache that the caller may see."""
        request = pb.ListCachedImagesRequest()
        replies = self._caller.listen(self._connection.stubs.images.ListCachedImages, request)
        return [
            CachedImage(image.sha256.hex(), image.size_bytes, to_record(image.ownership))
            for reply in replies
            for image in reply.images
        ]

    def delete_cached_images(
        self, images: Iterable[str | CachedImage] | None, owner: str | None
    ) -> DeletedImages:
        """Delete images from the server's cache: some, or all of the caller's or of `owner`."""
        if images is None:
            request = pb.DeleteCachedImagesRequest(all=True, owner=owner or "")
        elif owner is not None:
            sentence = "`owner` must be left out if `images` names them, got"
            raise InvalidRequestError(f"{sentence} {owner!r}: only all of an owner can be deleted.")
        else:
            request = pb.DeleteCachedImagesRequest(sha256=[_digest(image) for image in images])
            if not request.sha256:
                return DeletedImages(0, 0)
        reply = self._caller.ask(self._connection.stubs.images.DeleteCachedImages, request)
        return DeletedImages(int(reply.image_count), int(reply.freed_bytes))

    @property
    def _caller(self) -> Caller:
        return self._connection.caller


def _digest(image: str | CachedImage) -> bytes:
    text = image.sha256 if isinstance(image, CachedImage) else image
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise InvalidRequestError(
            "`images` must be records of `cached_images`, or the SHA-256 of files (64 lower-case "
            f"hex digits), got {text[:200]!r}."
        )
    return bytes.fromhex(text)
