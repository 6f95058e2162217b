"""The client of one server, on which the library's functions are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from .rpc.channel import resolve_address, set_default_address
from .rpc.connection import Connection
from .rpc.listings import Listings
from .rpc.models import LoadProgress, ModelCalls
from .rpc.pcas import PCACalls
from .values.model import Model
from .values.options import ComputeArguments, ExtractArguments, ExtractOptions, shows_options
from .values.pca import PCA
from .values.preprocessing import Preprocessing
from .values.records import ModelInfo, ModuleInfo, Residency, ResidentModel, Upload

if TYPE_CHECKING:  # they load numpy and pyarrow, which listing models does not need
    from pathlib import Path

    from typing_extensions import Unpack

    from .arrays import Array
    from .images.image import SentImage
    from .images.queue import ImageQueue, Images
    from .images.texts import Texts
    from .progress import Progress
    from .rpc.extraction import Extraction, FeatureStream
    from .rpc.features import FeatureCalls
    from .rpc.rdms import RDMs


class Client:
    """Calls one server. Threads may share it; close it, or use it in a `with` statement.

    `server` is host:port; by default the server given to `connect`, else the environment variable
    THINGSVISION_SERVER. `timeout` bounds every call from start to end, in seconds;
    None means no limit. Nothing is sent before the first call. A model is a `Model` or
    `source/name[@weights]`. Every method raises ThingsvisionError.
    """

    def __init__(self, server: str | None = None, timeout: float | None = None) -> None:
        self._connection = Connection(server, timeout)
        self._listings = Listings(self._connection)
        self._models = ModelCalls(self._connection)
        self._pcas = PCACalls(self._connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The address of the server."""
        return self._connection.caller.address

    def close(self) -> None:
        """End every call and close the connection."""
        self._connection.close()

    @cached_property
    def _features(self) -> FeatureCalls:
        """The calls that load numpy and pyarrow: the only place that imports them."""
        from .rpc.features import FeatureCalls

        return FeatureCalls(self._connection)

    def models(self, source: str = "", name_glob: str = "") -> list[ModelInfo]:
        """Return the models that the server can run, by source and a glob on their names."""
        return self._listings.models(source, name_glob)

    def modules(self, model: Model | str) -> list[ModuleInfo]:
        """Return the modules of a model in order of execution; its weights are not needed."""
        return self._listings.modules(model)

    def preprocessing(self, model: Model | str) -> Preprocessing | None:
        """Return how images become inputs with a model's pretrained weights.

        None if the server knows that only once the model is loaded, as with random and uploaded
        weights. The `provenance` of every extraction has it in full.
        """
        return self._listings.preprocessing(model)

    def server_images(self, folder: str = "") -> list[SentImage]:
        """Return the images below a folder of the server's image root, for `extract` and others.

        Their names are their paths relative to the root, ordered by folder, then file, by code
        points. The files never leave the server. Raises InvalidRequestError.
        """
        return self._listings.server_images(folder)

    @shows_options()
    def extract(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        flatten: bool = False,
        progress: Progress | None = None,
        **options: Unpack[ExtractArguments],
    ) -> Extraction:
        """Return the features of all images, one forward pass for all modules.

        Images given as arrays are inputs that are preprocessed already. `flatten` gives images x
        (everything else, C order). The provenance has the options of the forward pass.
        """
        chosen = ExtractOptions.from_call("Client.extract", options)
        result = self._features.extract(model, images, modules, chosen, progress=progress)
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
        """Return the features of texts; the result's `images` are the names of the texts.

        `texts` are strings, or pairs (name, text). `modules` None selects the model's complete
        text tower: texts x width, in the same space as its features of images.
        """
        options = ExtractOptions(batch_size=batch_size)
        result = self._features.extract_texts(model, texts, modules, options, progress=progress)
        return result.flattened() if flatten else result

    @shows_options()
    def stream(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        **options: Unpack[ExtractArguments],
    ) -> FeatureStream:
        """Return an iterator of (image names, {module: rows x shape}) in flat memory.

        Its provenance is known before the first row. The arrays are read-only. Only an iterator
        that is read to its end proves the reply complete.
        """
        chosen = ExtractOptions.from_call("Client.stream", options)
        return self._features.stream(model, images, modules, chosen)

    @shows_options(sends_features=False)
    def rdm(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        progress: Progress | None = None,
        **options: Unpack[ComputeArguments],
    ) -> RDMs:
        """Return an RDM of the images per module; features stay on the server.

        `metric` is `correlation`, `cosine`, `euclidean` or `gaussian`. The RDM is computed in
        float64 and returned as `dtype`. The rest is as in `extract`. Warns with
        UndefinedDistanceWarning.
        """
        chosen = ExtractOptions.from_call("Client.rdm", options, sends_features=False)
        return self._features.rdm(
            model, images, modules, chosen, metric=metric, dtype=dtype, progress=progress
        )

    def rdm_of(
        self,
        features: Array | Mapping[str, Array],
        names: Sequence[str] | None = None,
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        progress: Progress | None = None,
    ) -> RDMs:
        """Return an RDM per array of your own features (images x shape), which are uploaded.

        A single array gives the RDM `features`; `names` are the rows' names, by default 0, 1, ...
        """
        return self._features.rdm_of(features, names, metric=metric, dtype=dtype, progress=progress)

    @shows_options(sends_features=False)
    def fit_pca(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        components: int,
        name: str = "",
        progress: Progress | None = None,
        **options: Unpack[ComputeArguments],
    ) -> PCA:
        """Fit a PCA of each module on the features of images, which stay on the server.

        The server stores it, for `Reduction(pca=...)` with its `sha256` or `name`. `name` may name
        the set of images, and stand for a PCA of each model; the same call again returns the
        stored PCA. `components` is at most the number of a module's values, and less than the
        number of images. `reduction` is applied first, and the rest is as in `extract`; features to
        be reduced later need the same options. The PCA is exact: mean and principal axes, with
        sums in float64.
        """
        chosen = ExtractOptions.from_call("Client.fit_pca", options, sends_features=False)
        return self._features.fit_pca(
            model, images, modules, chosen, components=components, name=name, progress=progress
        )

    def pcas(self) -> list[PCA]:
        """Return the PCAs on the server, the oldest first."""
        return self._pcas.pcas()

    def delete_pca(self, pca: str) -> int:
        """Delete a PCA by its SHA-256 or its unique name, and return the number of bytes freed.

        Raises UnknownPCAError, and InvalidRequestError if several have the name.
        """
        return self._pcas.delete_pca(pca)

    def load(self, model: Model | str, progress: LoadProgress | None = None) -> ResidentModel:
        """Load a model before its first use, and return it as it is in memory."""
        return self._models.load(model, progress)

    def unload(self, model: Model | str) -> int:
        """Free a model's memory on the device, and return the number of bytes freed."""
        return self._models.unload(model)

    def pin(self, model: Model | str, pinned: bool = True) -> ResidentModel:
        """Keep a model in memory until it is unpinned (and load it if necessary), or unpin it."""
        return self._models.pin(model, pinned)

    def residency(self) -> Residency:
        """Return which models are in memory, and the server's devices."""
        return self._models.residency()

    def upload_weights(self, path: str | Path) -> str:
        """Send a file of weights and return its SHA-256: `Model(source, name, "sha256:...")`.

        Weights are a state dict (safetensors, or saved by PyTorch) or a Keras file. Nothing is sent
        if the server has the file; an interrupted upload resumes where it stopped.
        """
        return self._models.upload_weights(path)

    def upload_model(
        self, path: str | Path, preprocessing: Preprocessing | Mapping[str, Any] | None = None
    ) -> Model:
        """Send a complete model (.pt2 of torch.export, .onnx, .keras) and return it, `own/SHA256`.

        `preprocessing` says how images become its inputs, e.g. `Preprocessing(resize_pixels=256,
        crop_pixels=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))` or such a dict.
        Without it the model takes tensors only. It is stored with the file: declaring another for
        the same file is an InvalidRequestError.
        """
        return self._models.upload_model(path, preprocessing)

    def uploads(self) -> list[Upload]:
        """Return the uploaded files on the server, the oldest first."""
        return self._models.uploads()

    def delete_upload(self, sha256: str) -> int:
        """Delete an uploaded file, and return the number of bytes freed.

        Raises UnknownWeightsError, and ModelInUseError while a model uses it in memory.
        """
        return self._models.delete_upload(sha256)


def connect(server: str) -> Client:
    """Make host:port the default server of this process, and return its client.

    Nothing is sent: a missing server raises UnavailableError at the first call.
    """
    set_default_address(server)
    return shared_client(server)


def shared_client(server: str | None = None) -> Client:
    """Return this process's shared client of a server, which is found as in `Client`."""
    return _client_at(resolve_address(server))


@cache
def _client_at(address: str) -> Client:
    return Client(address)
