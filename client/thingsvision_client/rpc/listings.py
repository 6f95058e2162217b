"""What a server can run and which images it has: each method is one call."""

from __future__ import annotations

from glob import escape

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.cards import Table
from ..images.image import SentImage, server_image
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

    @property
    def _caller(self) -> Caller:
        return self._connection.caller
