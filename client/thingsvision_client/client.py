"""A client of one server: each method is one call; the façades of the library stand on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from glob import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ImageServiceStub

from .images.queue import ImageQueue, Images, SentImage, kept_queue, server_image
from .rpc.call import Caller
from .rpc.channel import open_channel, resolve_address, set_default_address
from .rpc.control import ModelControl
from .rpc.feature_stub import feature_stub
from .rpc.kept_images import KeptImages
from .rpc.pcas import PCAControl
from .values.model import Model, as_model
from .values.records import ModelInfo, ModuleInfo, Preprocessing, to_record

if TYPE_CHECKING:  # they load pyarrow, which listing models does not need
    from .arrays import Array
    from .images.texts import Texts
    from .progress import Progress
    from .rpc.extraction import Extraction, FeatureStream
    from .rpc.rdms import RDMs
    from .values.preprocessing import PreprocessingOverrides
    from .values.reductions import Reduction


class Client(ModelControl, PCAControl):
    """Calls one server. Threads may share it; close it, or use it in a `with` statement.

    `server` is host:port; without it `connect`'s server is called, else that in the environment
    variable THINGSVISION_SERVER. `timeout` bounds every call from start to end, in seconds;
    None lets it take its time. Nothing is sent before the first call. A model is a `Model` or
    `source/name[@weights]`. Every method raises ThingsvisionError.
    """

    def __init__(self, server: str | None = None, timeout: float | None = None) -> None:
        self._caller = Caller(resolve_address(server), timeout)
        self._channel = open_channel(self._caller.address)
        ModelControl.__init__(self, self._caller, self._channel)
        self._features = feature_stub(self._channel)
        self._images: Any = ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._kept = KeptImages(self._caller, self._images.FindImages)
        PCAControl.__init__(self, self._caller, self._channel, self._kept)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The address that is called."""
        return self._caller.address

    def close(self) -> None:
        """End every call and close the connection."""
        self._channel.close()

    def models(self, source: str = "", name_glob: str = "") -> list[ModelInfo]:
        """Return the models that the server can run, of one source and by a glob on their names."""
        request = pb.ListModelsRequest(source=source, name_glob=name_glob)
        return [to_record(m) for m in self._caller.listen(self._features.ListModels, request)]

    def modules(self, model: Model | str) -> list[ModuleInfo]:
        """Return the modules of a model in order of execution; its weights need not be there."""
        request = pb.ListModulesRequest(model=as_model(model).to_spec())
        replies = self._caller.listen(self._features.ListModules, request, model_id(request.model))
        return [to_record(message) for message in replies]

    def preprocessing(self, model: Model | str) -> Preprocessing | None:
        """Return how images become inputs with a model's pretrained weights.

        None where the server knows that only with the model at hand, as with random and uploaded
        weights: every extraction tells it in full, in its `provenance`.
        """
        wanted = as_model(model)
        tag = None if wanted.weights == "default" else wanted.weights
        for info in self.models(wanted.source, escape(wanted.name)):
            for entry in info.pretrained:
                if entry.tag == tag or (tag is None and entry.is_default):
                    return entry.preprocessing
        return None

    def extract(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        batch_size: int | None = None,
        token_extraction: str | None = None,
        preprocessing: PreprocessingOverrides | None = None,
        precision: str = "float32",
        dtype: str = "float32",
        deterministic: bool = False,
        reduction: Reduction | None = None,
        memory_format: str = "contiguous",
        compiled: bool = False,
        flatten: bool = False,
        progress: Progress | None = None,
    ) -> Extraction:
        """Return the features of all images, one forward pass for all modules.

        `batch_size` None lets the server merge images as they come; a number makes a
        repetition give the same bits. `token_extraction` takes of sequences of tokens the class
        token (`cls_token`), the mean of those of patches (`avg_pool`), or both
        (`cls_token+avg_pool`). `preprocessing` changes the model's own. Images as arrays are
        inputs that are preprocessed already. `flatten` gives images x (everything else, C order).

        `precision` of the forward pass is `float32`, or quicker and less exact `tf32`, `bfloat16`
        or `float16`, where the device can. `dtype` `float16` halves what is sent. `deterministic`
        runs every image alone: the same bits whatever its neighbours. `reduction` makes features
        smaller before they are sent. `memory_format` of the pass is `contiguous`, or
        `channels_last`: quicker convolutions of PyTorch networks, other last bits. `compiled` has
        torch.compile make code of the passes: worth it from some thousand images on, with other
        last bits; it needs a `batch_size`. The provenance names them all.
        """
        from .rpc.extraction import ExtractOptions, extract, extract_header

        options = ExtractOptions(
            batch_size,
            token_extraction,
            preprocessing,
            precision,
            dtype,
            deterministic,
            reduction,
            memory_format,
            compiled,
        )
        queue = kept_queue(images, self._kept)
        header = extract_header(model, modules, queue, options)
        result = extract(self._caller, self._features.Extract, header, queue, progress=progress)
        return result.flattened() if flatten else result

    def extract_texts(
        self,
        model: Model | str,
        texts: Texts,
        modules: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        flatten: bool = False,
        progress: Progress | None = None,
    ) -> Extraction:
        """Return the features of texts, whose names are in the place of those of images.

        `texts` are strings, or pairs (name, text). `modules` None takes the model's text tower as
        a whole: texts x width, in the space of its features of images.
        """
        from .images.texts import queue_texts, text_tower

        queue = queue_texts(texts)
        wanted = text_tower(self.modules(model)) if modules is None else modules
        return self.extract(
            model, queue, wanted, batch_size=batch_size, flatten=flatten, progress=progress
        )

    def stream(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        batch_size: int | None = None,
        token_extraction: str | None = None,
        preprocessing: PreprocessingOverrides | None = None,
        precision: str = "float32",
        dtype: str = "float32",
        deterministic: bool = False,
        reduction: Reduction | None = None,
        memory_format: str = "contiguous",
        compiled: bool = False,
    ) -> FeatureStream:
        """Return an iterator of (image names, {module: rows x shape}) in flat memory.

        It tells the provenance before the first row. The arrays are read-only. Only an iterator
        read to its end proves the reply complete.
        """
        from .rpc.extraction import ExtractOptions, extract_header, stream

        options = ExtractOptions(
            batch_size,
            token_extraction,
            preprocessing,
            precision,
            dtype,
            deterministic,
            reduction,
            memory_format,
            compiled,
        )
        queue = kept_queue(images, self._kept)
        header = extract_header(model, modules, queue, options)
        return stream(self._caller, self._features.Extract, header, queue)

    def rdm(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        batch_size: int | None = None,
        token_extraction: str | None = None,
        preprocessing: PreprocessingOverrides | None = None,
        precision: str = "float32",
        deterministic: bool = False,
        reduction: Reduction | None = None,
        memory_format: str = "contiguous",
        compiled: bool = False,
        progress: Progress | None = None,
    ) -> RDMs:
        """Return an RDM of the images per module; features stay on the server.

        `metric` is `correlation`, `cosine`, `euclidean` or `gaussian`. The RDM is computed in
        float64 and comes as `dtype`. All else is as in `extract`. Warns with
        UndefinedDistanceWarning.
        """
        from .rpc.extraction import ExtractOptions, extract_header
        from .rpc.rdms import rdm_header, rdms_of_images

        options = ExtractOptions(
            batch_size,
            token_extraction,
            preprocessing,
            precision,
            deterministic=deterministic,
            reduction=reduction,
            memory_format=memory_format,
            compiled=compiled,
        )
        queue = kept_queue(images, self._kept)
        header = rdm_header(metric, dtype, extract_header(model, modules, queue, options))
        method = self._features.ComputeRDM
        return rdms_of_images(self._caller, method, header, queue, progress=progress)

    def rdm_of(
        self,
        features: Array | Mapping[str, Array],
        names: Sequence[str] | None = None,
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        progress: Progress | None = None,
    ) -> RDMs:
        """Return an RDM per array of ready features (images x shape), which are uploaded.

        One array gives the RDM `features`; `names` are of the rows, 0, 1, ... without them.
        """
        from .rpc.rdms import checked_features, rdm_header, rdms_of_features

        header = rdm_header(metric, dtype)
        arrays, rows = checked_features(features, names)
        method = self._features.ComputeRDM
        return rdms_of_features(self._caller, method, header, arrays, names=rows, progress=progress)

    def server_images(self, folder: str = "") -> list[SentImage]:
        """Return the images below a folder of the server's image root, for `extract` and others.

        They are named by their paths relative to the root, and ordered by folder, then file, by
        code points. Their files never leave the server. Raises InvalidRequestError.
        """
        replies = self._caller.listen(self._images.ListImages, pb.ListImagesRequest(folder=folder))
        return [server_image(reply.server_path) for reply in replies]


def connect(server: str) -> Client:
    """Make host:port the server of this process, and return its client.

    Nothing is sent: a server that is not there is an UnavailableError at the first call.
    """
    set_default_address(server)
    return shared_client(server)


def shared_client(server: str | None = None) -> Client:
    """Return the process's one client of a server, found as `Client` finds it."""
    return _client_at(resolve_address(server))


@cache
def _client_at(address: str) -> Client:
    return Client(address)
