"""The client of one server, on which the library's functions are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from .calls.signatures import checked
from .display.cards import Shown, Table
from .display.progress import saying_nothing_kept, shown
from .errors import BadImagesError
from .rpc.address import resolve_address, set_default_address
from .rpc.connection import Connection
from .rpc.listings import Listings
from .rpc.models import LoadProgress, ModelCalls
from .rpc.proxies import may_use_proxy, set_proxy
from .values.model import Model
from .values.options import ComputeArguments, ExtractArguments, ExtractOptions, shows_options
from .values.pca import PCA
from .values.preprocessing import Preprocessing, PreprocessingOverrides
from .values.records import ModelInfo, ModuleInfo, Residency, ResidentModel, Upload

if TYPE_CHECKING:  # they load numpy and pyarrow, which listing models does not need
    from pathlib import Path

    from typing_extensions import Unpack

    from .arrays import Array
    from .display.progress import ProgressChoice
    from .images.image import SentImage
    from .images.queue import ImageQueue, Images
    from .images.texts import Texts
    from .rpc.extraction import Extraction, FeatureStream
    from .rpc.features import FeatureCalls
    from .rpc.inputs import Inputs
    from .rpc.pcas import PCACalls
    from .rpc.rdms import RDMs


@checked
class Client(Shown):
    """Calls one server. Threads may share it; close it, or use it in a `with` statement.

    Nothing is sent before the first call. A copy, or a process that gets the client by fork or
    pickled, connects anew. Every method raises ThingsvisionError or a subclass.

    Args:
        server: Address, host:port; by default the server given to `connect`, else the environment
            variable THINGSVISION_SERVER.
        timeout: Seconds that a call may last from start to end; None means no limit.
        proxy: False connects without the proxy that the environment variables `http_proxy`,
            `https_proxy` or `grpc_proxy` name; None does as `connect` was told for this server.
            Without `connect`, they are followed, except for hosts in `no_proxy` and for servers
            on this machine.

    Raises:
        NoServerError: No server was named, or its address is not host:port.

    Example:
        ```python
        from thingsvision_client import Client

        with Client() as client:
            extraction = client.extract("torchvision/alexnet", "photos", "features.10")
        print(extraction.features["features.10"].shape)
        ```

    """

    def __init__(
        self,
        server: str | None = None,
        timeout: float | None = None,
        *,
        proxy: bool | None = None,
    ) -> None:
        self._use(Connection(server, timeout, proxy=proxy))

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self._listings = Listings(connection)
        self._models = ModelCalls(connection)

    def _facts(self) -> dict[str, Any]:
        return {
            "server": self.server,
        }

    def __getstate__(self) -> Connection:
        return self._connection

    def __setstate__(self, connection: Connection) -> None:
        self._use(copy(connection))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The address of the server."""
        return self._connection.address

    def close(self) -> None:
        """End every call and close the connection.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            print(len(client.models()))
            client.close()
            ```

        """
        self._connection.close()

    @cached_property
    def _pcas(self) -> PCACalls:
        """The calls about PCAs, whose replies are read with numpy."""
        from .rpc.pcas import PCACalls

        return PCACalls(self._connection)

    @cached_property
    def _features(self) -> FeatureCalls:
        """The calls that load numpy and pyarrow: the only place that imports them."""
        from .rpc.features import FeatureCalls

        return FeatureCalls(self._connection)

    def models(self, source: str = "", name_glob: str = "") -> Table[ModelInfo]:
        """Return the models that the server can run, by source and a glob on their names.

        Args:
            source: A source of models, such as `torchvision` or `timm`; empty means all sources.
            name_glob: A pattern for names, such as `resnet*`; empty means all names.

        Returns:
            A record per model, with its pretrained weights; `to_dataframe()` makes a table.

        Raises:
            UnknownSourceError: The server has no such source.

        Example:
            ```python
            from thingsvision_client import Client

            for model in Client().models("torchvision", "resnet*"):
                print(model.name, [weights.tag for weights in model.pretrained])
            ```

        """
        return self._listings.models(source, name_glob)

    def modules(self, model: Model | str) -> Table[ModuleInfo]:
        """Return the modules of a model in order of execution; its weights are not needed.

        Args:
            model: A Model, or `source/name[@weights]`.

        Returns:
            A record per module: name, type, output shape for one image, and whether it can be
            extracted; `to_dataframe()` makes a table.

        Raises:
            UnknownModelError: The source has no such model; near matches are named.

        Example:
            ```python
            from thingsvision_client import Client

            for module in Client().modules("torchvision/alexnet"):
                print(module.name, module.type, module.output_shape)
            ```

        """
        return self._listings.modules(model)

    def preprocessing(self, model: Model | str) -> Preprocessing | None:
        """Return how images become inputs with a model's pretrained weights.

        Args:
            model: A Model, or `source/name[@weights]`.

        Returns:
            The preprocessing, or None if the server knows it only once the model is loaded, as with
            random and uploaded weights. The `provenance` of every extraction has it in full.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().preprocessing("torchvision/alexnet").to_json())
            ```

        """
        return self._listings.preprocessing(model)

    def preprocess(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        preprocessing: PreprocessingOverrides | Preprocessing | None = None,
    ) -> Inputs:
        """Return images as the inputs that the server would feed a model, to the last bit.

        Sent as arrays, they give the features of the images. The model's weights are not needed.

        Args:
            model: A Model, or `source/name[@weights]`.
            images: As in `extract`, but no arrays that are inputs already.
            preprocessing: As in `extract`: changes of the model's own, or one in its place.

        Returns:
            The inputs (images x one input's shape, float32), the names of the images, and how
            images became inputs.

        Raises:
            ImageError: An image can't be read or decoded; its name is in `subject`.
            InvalidRequestError: Any other invalid argument.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            found = client.preprocess("torchvision/alexnet", "photos")
            extraction = client.extract("torchvision/alexnet", found.inputs, "features.10")
            print(found.preprocessing.description, extraction.features["features.10"].shape)
            ```

        """
        return self._features.preprocess(model, images, preprocessing)

    def server_images(self, folder: str = "") -> list[SentImage]:
        """Return the images below a folder of the server's image root, for `extract` and others.

        The files never leave the server.

        Args:
            folder: Path of the folder relative to the image root; empty means the root itself.

        Returns:
            The images, ordered by folder, then file, by code points. Their names are their paths
            relative to the root.

        Raises:
            InvalidRequestError: There is no such folder, or the server has no image root.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            images = client.server_images("things")
            print(client.extract("torchvision/alexnet", images, "features.10").images)
            ```

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
        on_error: str = "raise",
        progress: ProgressChoice = None,
        **options: Unpack[ExtractArguments],
    ) -> Extraction:
        """Return the features of all images, one forward pass for all modules.

        Args:
            model: A Model, or `source/name[@weights]`, such as `torchvision/alexnet@random:0`.
            images: A folder, a file, or an iterable of files, Pillow images, uint8 arrays of height
                x width x 3, pairs (name, one of these or the bytes of an image file), or pairs
                (name, array of floats). Floats are preprocessed already; an array of images x one
                input's shape works too.
            modules: Name of a module, or a sequence of names, each once.
            flatten: Return images x (everything else, C order).
            on_error: What to do about images that can't be read or decoded: `raise` an error once
                the others are complete, or `skip` them with a warning. Other images' features
                have the same bits either way.
            progress: True for a bar, False for none; by default there is a bar in terminals and in
                Jupyter. A function is called with a stage (`loading MODEL`, `extracting`), the
                images done, and their number (None if unknown).
            **options: Options of the forward pass, such as `batch_size`.

        Returns:
            The features (images x shape per module, float32 by default), the names of the images,
            and the provenance. Images that were skipped have no row; they are in `skipped`.

        Raises:
            UnknownModuleError: The model has no such module.
            BadImagesError: Images can't be read or decoded: all of them are in its `bad`, and the
                extraction of the others is its `result`.
            InvalidRequestError: Any other invalid argument.
            WeightsMissingError: The server does not have the pretrained weights.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            modules = ["features.3", "features.10"]
            extraction = client.extract("torchvision/alexnet", "photos", modules, batch_size=32)
            print(extraction.images, extraction.features["features.10"].shape)
            ```

        """
        from .origins import OriginRecorder  # it loads numpy

        chosen = ExtractOptions.from_call("Client.extract", options)
        recorder = OriginRecorder(images, chosen)
        try:
            with shown(progress) as report, saying_nothing_kept():
                result = self._features.extract(
                    model, recorder.queue, modules, chosen, on_error=on_error, progress=report
                )
        except BadImagesError as error:
            if error.result is not None:
                recorder.remember(error.result)
            if not flatten or error.result is None:
                raise
            raise error.with_result(error.result.flattened()) from None
        recorder.remember(result)
        return result.flattened() if flatten else result

    def extract_texts(
        self,
        model: Model | str,
        texts: Texts,
        modules: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        flatten: bool = False,
        progress: ProgressChoice = None,
    ) -> Extraction:
        """Return the features of texts; the result's `images` are the names of the texts.

        Args:
            model: A Model, or `source/name[@weights]`, of a model with a text tower.
            texts: A text, or an iterable of texts or pairs (name, text). A text is its own name.
            modules: Modules that see texts. None selects the model's complete text tower: texts x
                width, in the same space as its features of images.
            batch_size: Texts in a forward pass; None lets the server merge texts as they come.
            flatten: Return texts x (everything else, C order).
            progress: As in `extract`.

        Returns:
            The features (texts x shape per module, float32), the names, and the provenance.

        Raises:
            InvalidRequestError: The model sees images only, or there are no texts.
            UnknownModuleError: The model has no such module.

        Example:
            ```python
            from thingsvision_client import Client

            texts = ["a photo of a cat", "a photo of a rocket"]
            extraction = Client().extract_texts("custom/clip/ViT-B-32", texts)
            print({module: rows.shape for module, rows in extraction.features.items()})
            ```

        """
        options = ExtractOptions(batch_size=batch_size)
        with shown(progress) as report, saying_nothing_kept():
            result = self._features.extract_texts(model, texts, modules, options, progress=report)
        return result.flattened() if flatten else result

    @shows_options()
    def stream(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        on_error: str = "raise",
        **options: Unpack[ExtractArguments],
    ) -> FeatureStream:
        """Return features as they arrive, in flat memory; the arrays are read-only.

        Only an iterator that is read to its end proves the reply complete.

        Args:
            model: A Model, or `source/name[@weights]`.
            images: As in `extract`.
            modules: Name of a module, or a sequence of names, each once.
            on_error: As in `extract`; with `raise`, the error comes after the last row.
            **options: Options of the forward pass, such as `batch_size`.

        Returns:
            An iterator of (image names, {module: rows x shape}). Its provenance is known before the
            first row.

        Raises:
            InvalidRequestError: An invalid argument. What `extract` raises besides, the iterator
                raises.

        Example:
            ```python
            from thingsvision_client import Client

            stream = Client().stream("torchvision/alexnet", "photos", "features.10", batch_size=2)
            for names, features in stream:
                print(names, features["features.10"].shape)
            ```

        """
        chosen = ExtractOptions.from_call("Client.stream", options)
        return self._features.stream(model, images, modules, chosen, on_error=on_error)

    @shows_options(sends_features=False)
    def rdm(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        on_error: str = "raise",
        progress: ProgressChoice = None,
        **options: Unpack[ComputeArguments],
    ) -> RDMs:
        """Return an RDM of the images per module; features stay on the server.

        Args:
            model: A Model, or `source/name[@weights]`.
            images: As in `extract`.
            modules: Name of a module, or a sequence of names, each once.
            metric: `correlation` (1 - Pearson's r), `cosine`, `euclidean` or `gaussian`.
            dtype: Element type of the RDM, which is computed in float64: `float32` or `float64`.
            on_error: What to do about an image that can't be read or decoded: `raise` an error at
                once, or `skip` it with a warning.
            progress: As in `extract`; the stages are `loading MODEL`, `collecting` and
                `comparing`.
            **options: Options of the forward pass, such as `batch_size`.

        Returns:
            The RDMs (images x images per module), the names of the images, and the provenance.

        Raises:
            UnknownModuleError: The model has no such module.
            InvalidRequestError: Any other invalid argument.

        Warns:
            UndefinedDistanceWarning: Some images have no defined distance to others: NaN.

        Example:
            ```python
            from thingsvision_client import Client

            rdms = Client().rdm("torchvision/alexnet", "photos", "features.10", metric="cosine")
            print(rdms.images)
            print(rdms.rdms["features.10"])
            ```

        """
        chosen = ExtractOptions.from_call("Client.rdm", options, sends_features=False)
        with shown(progress) as report, saying_nothing_kept():
            return self._features.rdm(
                model, images, modules, chosen,
                metric=metric, dtype=dtype, on_error=on_error, progress=report,
            )  # fmt: skip

    def rdm_of(
        self,
        features: Array | Mapping[str, Array],
        names: Sequence[str] | None = None,
        *,
        metric: str = "correlation",
        dtype: str = "float32",
        progress: ProgressChoice = None,
    ) -> RDMs:
        """Return an RDM per array of your own features, which are uploaded.

        Args:
            features: An array of images x shape, whose RDM is called `features`, or a mapping of
                names to such arrays, with the same number of rows.
            names: Names of the rows; by default those that the features carry (an index of pandas,
                a coordinate of xarray), or of the images that they were extracted from, else 0, 1,
                ...
            metric: `correlation` (1 - Pearson's r), `cosine`, `euclidean` or `gaussian`.
            dtype: Element type of the RDM, which is computed in float64: `float32` or `float64`.
            progress: As in `extract`; the stages are `loading MODEL`, `collecting` and
                `comparing`.

        Returns:
            The RDMs (images x images per array); their `provenance` is None.

        Raises:
            InvalidRequestError: An invalid argument, or arrays that are not real numbers, images x
                shape.

        Warns:
            UndefinedDistanceWarning: Some rows have no defined distance to others: NaN.

        Example:
            ```python
            import numpy as np
            from thingsvision_client import Client

            features = np.random.default_rng(0).normal(size=(10, 50))
            print(Client().rdm_of(features, metric="cosine").rdms["features"].shape)
            ```

        """
        with shown(progress) as report, saying_nothing_kept():
            return self._features.rdm_of(
                features, names, metric=metric, dtype=dtype, progress=report
            )

    @shows_options(sends_features=False)
    def fit_pca(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        components: int,
        name: str = "",
        on_error: str = "raise",
        progress: ProgressChoice = None,
        **options: Unpack[ComputeArguments],
    ) -> PCA:
        """Fit a PCA of each module on the features of images, which stay on the server.

        The server stores it, for `Reduction(pca=...)` with its `sha256` or `name`. The same call
        again returns the stored PCA. The PCA is exact: mean and principal axes, with sums in
        float64. `reduction` is applied before it, and features to be reduced later need the same
        options.

        Args:
            model: A Model, or `source/name[@weights]`.
            images: As in `extract`.
            modules: Name of a module, or a sequence of names, each once.
            components: Number of components: at most the number of a module's values, and less than
                the number of images.
            name: Names the PCA, such as the set of images; PCAs of several models may share it.
            on_error: As in `rdm`.
            progress: As in `extract`; the stages are `loading MODEL`, `collecting` and `fitting`.
            **options: Options of the forward pass, such as `batch_size`.

        Returns:
            The PCA with its `sha256`, and the variance that each component explains.

        Raises:
            UnknownModuleError: The model has no such module.
            InvalidRequestError: Any other invalid argument, such as too many components.

        Example:
            ```python
            from thingsvision_client import Client

            pca = Client().fit_pca(
                "torchvision/alexnet", "photos", "features.10", components=2, name="stimuli"
            )
            print(pca.sha256, pca.explained_variance_ratio["features.10"])
            ```

        """
        chosen = ExtractOptions.from_call("Client.fit_pca", options, sends_features=False)
        with shown(progress) as report, saying_nothing_kept():
            return self._features.fit_pca(
                model, images, modules, chosen,
                components=components, name=name, on_error=on_error, progress=report,
            )  # fmt: skip

    def pcas(self) -> list[PCA]:
        """Return the PCAs on the server.

        Returns:
            A record per PCA, the oldest first.

        Example:
            ```python
            from thingsvision_client import Client

            for pca in Client().pcas():
                print(pca.name, pca.model_id, pca.component_count, pca.sha256)
            ```

        """
        return self._pcas.pcas()

    def delete_pca(self, pca: str) -> int:
        """Delete a PCA from the server.

        Args:
            pca: SHA-256 of the PCA, or its name if no other PCA has it.

        Returns:
            The number of bytes freed.

        Raises:
            UnknownPCAError: The server has no such PCA.
            InvalidRequestError: Several PCAs have the name.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            pca = client.fit_pca("torchvision/alexnet", "photos", "features.3", components=2)
            print(client.delete_pca(pca.sha256), "bytes freed")
            ```

        """
        return self._pcas.delete_pca(pca)

    def load(self, model: Model | str, progress: LoadProgress | None = None) -> ResidentModel:
        """Load a model before its first use.

        Args:
            model: A Model, or `source/name[@weights]`.
            progress: Called with a stage (`waiting`, `loading` or `ready`) and the seconds since
                the start.

        Returns:
            The model as it is in memory: its device, its bytes and the SHA-256 of its weights.

        Raises:
            UnknownModelError: The source has no such model.
            WeightsMissingError: The server does not have the pretrained weights.
            ModelTooLargeError: The model can never fit the device's budget.

        Example:
            ```python
            from thingsvision_client import Client

            resident = Client().load("torchvision/alexnet", progress=print)
            print(resident.device, resident.resident_bytes)
            ```

        """
        return self._models.load(model, progress)

    def unload(self, model: Model | str) -> int:
        """Free a model's memory on the device.

        Args:
            model: A Model, or `source/name[@weights]`.

        Returns:
            The number of bytes freed on the device; 0 if the model was offloaded to the host's
            memory.

        Raises:
            NotResidentError: The model is not in memory.
            ModelInUseError: A request uses the model, or it is pinned.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            client.load("torchvision/squeezenet1_0")
            print(client.unload("torchvision/squeezenet1_0"), "bytes freed")
            ```

        """
        return self._models.unload(model)

    def pin(self, model: Model | str, pinned: bool = True) -> ResidentModel:
        """Keep a model in memory until it is unpinned, or unpin it.

        Args:
            model: A Model, or `source/name[@weights]`; it is loaded if necessary.
            pinned: False unpins it.

        Returns:
            The model as it is in memory.

        Raises:
            NotResidentError: The model to be unpinned is not in memory.
            UnknownModelError: The source has no such model.
            ModelTooLargeError: The model can never fit the device's budget.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            print(client.pin("torchvision/alexnet").pinned)
            print(client.pin("torchvision/alexnet", pinned=False).pinned)
            ```

        """
        return self._models.pin(model, pinned)

    def residency(self) -> Residency:
        """Return which models are in memory, and the server's devices.

        Returns:
            The models, the most recently used first, and the devices with their memory in bytes.

        Example:
            ```python
            from thingsvision_client import Client

            residency = Client().residency()
            for model in residency.models:
                print(model.model_id, model.device, model.resident_bytes)
            print(residency.devices)
            ```

        """
        return self._models.residency()

    def upload_weights(self, path: str | Path) -> str:
        """Send a file of weights; nothing is sent if the server has it.

        An interrupted upload resumes where it stopped.

        Args:
            path: A state dict (safetensors, or saved by PyTorch) or a Keras file.

        Returns:
            The SHA-256 of the file: `Model(source, name, f"sha256:{sha256}")` is a model with these
            weights.

        Raises:
            InvalidWeightsError: The file can't be read, or the server can't use it.

        Example:
            ```python
            from pathlib import Path
            import torch
            from torchvision.models import squeezenet1_1
            from thingsvision_client import Client

            Path("results").mkdir(exist_ok=True)
            network = squeezenet1_1()  # in the place of a network that you trained
            torch.save(network.state_dict(), "results/net.pth")
            client = Client()
            model = f"torchvision/squeezenet1_1@sha256:{client.upload_weights('results/net.pth')}"
            print(client.extract(model, "photos", "features.12").provenance.model_sha256)
            ```

        """
        return self._models.upload_weights(path)

    def upload_model(
        self, path: str | Path, preprocessing: Preprocessing | Mapping[str, Any] | None = None
    ) -> Model:
        """Send a complete model, which then is `own/SHA256`.

        Args:
            path: File of torch.export (.pt2), ONNX (.onnx) or Keras (.keras).
            preprocessing: How images become its inputs: a Preprocessing, or a mapping with its
                fields, which is stored with the file. Without it the model takes tensors only.

        Returns:
            The model, for `extract` and others.

        Raises:
            InvalidWeightsError: The file can't be read, or the server can't use it.
            InvalidRequestError: The file has weights only, or another preprocessing was declared
                for it.

        Example:
            ```python
            from pathlib import Path
            import torch
            from thingsvision_client import Client

            network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, kernel_size=11), torch.nn.ReLU())
            example, sizes = torch.zeros(2, 3, 224, 224), ({0: torch.export.Dim("batch")},)
            Path("results").mkdir(exist_ok=True)
            program = torch.export.export(network.eval(), (example,), dynamic_shapes=sizes)
            torch.export.save(program, "results/net.pt2")
            declared = {"resize_pixels": 256, "crop_pixels": 224}
            print(Client().upload_model("results/net.pt2", declared))
            ```

        """
        return self._models.upload_model(path, preprocessing)

    def uploads(self) -> list[Upload]:
        """Return the uploaded files on the server.

        Returns:
            A record per file, the oldest first.

        Example:
            ```python
            from thingsvision_client import Client

            for upload in Client().uploads():
                print(upload.name, upload.format, upload.size_bytes, upload.sha256)
            ```

        """
        return self._models.uploads()

    def delete_upload(self, sha256: str) -> int:
        """Delete an uploaded file.

        Args:
            sha256: SHA-256 of the file, as `upload_weights` and `uploads` return it.

        Returns:
            The number of bytes freed.

        Raises:
            UnknownWeightsError: The server has no such file.
            ModelInUseError: A model in memory uses the file.

        Example:
            ```python
            from pathlib import Path
            import torch
            from thingsvision_client import Client

            Path("results").mkdir(exist_ok=True)
            torch.save(torch.nn.Linear(8, 8).state_dict(), "results/net.pth")
            client = Client()
            sha256 = client.upload_weights("results/net.pth")
            print(client.delete_upload(sha256), "bytes freed")
            ```

        """
        return self._models.delete_upload(sha256)


@checked
def connect(server: str, *, proxy: bool = True) -> Client:
    """Make a server the default of this process.

    Nothing is sent: a missing server raises UnavailableError at the first call, within 20 seconds.

    Args:
        server: Address, host:port.
        proxy: False connects without the proxy that the environment names (`http_proxy`), for all
            calls of this process to that server.

    Returns:
        The client of the server, which the functions of this package then share.

    Raises:
        NoServerError: The address is not host:port.

    Example:
        ```python
        import os
        from thingsvision_client import connect

        client = connect(os.environ["THINGSVISION_SERVER"])  # or "gpu:50051"
        print([model.name for model in client.models("torchvision", "alex*")])
        ```

    """
    address = set_default_address(server)
    set_proxy(address, proxy)
    return shared_client(address)


def shared_client(server: str | None = None) -> Client:
    """Return this process's shared client of a server, which is found as in `Client`."""
    address = resolve_address(server)
    return _client_at(address, may_use_proxy(address))


@cache
def _client_at(address: str, proxy: bool) -> Client:
    return Client(address, proxy=proxy)
