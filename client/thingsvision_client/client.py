"""The client of one server, on which the library's functions are built."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from .calls.signatures import check_arguments
from .display.cards import Shown, Table
from .display.progress import open_progress, report_lost_result
from .errors import BadImagesError, InvalidRequestError
from .rpc.address import check_address, resolve_address, set_default_address, with_tls
from .rpc.connection import Connection
from .rpc.credentials import (
    Credentials,
    credentials_for,
    encrypts_everywhere,
    set_credentials,
)
from .rpc.listings import Listings
from .rpc.models import LoadProgress, ModelCalls
from .rpc.proxies import may_use_proxy, set_proxy
from .rpc.tls_files import TLSFiles
from .values.cached_images import CachedImage, DeletedImages
from .values.model import Model
from .values.options import ComputeArguments, ExtractArguments, ExtractOptions, shows_options
from .values.ownership import Sharing
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
    from .rpc.extraction import Extraction
    from .rpc.feature_stream import FeatureStream
    from .rpc.features import FeatureCalls
    from .rpc.inputs import Inputs
    from .rpc.pcas import PCACalls
    from .rpc.rdms import RDMs


@check_arguments
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
        token: The token that the server's operator gave you. By default that of `connect` for this
            server, else of the environment variable THINGSVISION_TOKEN, else of the file that
            THINGSVISION_TOKEN_FILE names, else of ~/.config/thingsvision/token (chmod 600).
        ca: PEM file of the authority that signed the server's certificate, which is then asked
            for: the address becomes grpcs://host:port. By default THINGSVISION_CA names it, else
            public authorities are trusted.
        cert: PEM file of your own certificate, for servers that ask for it; with `key`. By default
            THINGSVISION_CERT and THINGSVISION_KEY name both.
        key: PEM file of the private key of `cert`.
        plain_token: True sends the token to another machine without encryption.

    Raises:
        NoServerError: No server was named, or its address is not host:port.
        InvalidRequestError: A file of TLS can't be used, or the token would be sent unencrypted.

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
        token: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        plain_token: bool = False,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise InvalidRequestError(
                f"`timeout` must be seconds above 0, or None for no limit, got {timeout!r}."
            )
        address, credentials = _identify(
            resolve_address(server), token, TLSFiles(*map(_as_file, (ca, cert, key))), plain_token
        )
        self._use(Connection(address, timeout, proxy=proxy, credentials=credentials))

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

    def cached_images(self) -> list[CachedImage]:
        """Return the images that the server has cached for you: sent by you, or shared with you.

        The server caches images that it is sent, and asks for no file that it has already. On a
        server without tokens all see all.

        Returns:
            A record per image, the least recently used first; an admin gets all.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            client.extract("torchvision/alexnet", "photos", "features.3")
            images = client.cached_images()
            print(len(images), "images,", sum(image.size_bytes for image in images), "bytes")
            ```

        """
        return self._listings.cached_images()

    def delete_cached_images(
        self, images: Sequence[str | CachedImage] | None = None, *, owner: str | None = None
    ) -> DeletedImages:
        """Delete images of yours from the server's cache; later calls send them again.

        Images that others sent too stay theirs.

        Args:
            images: Records of `cached_images`, or SHA-256 of files; None for all of yours. An
                admin's call deletes them for all owners.
            owner: Whose images to delete, all of them; an admin may name somebody else, or `*` for
                everybody. None for yours.

        Returns:
            How many images were deleted, and the bytes freed on the server's disk.

        Raises:
            InvalidRequestError: A name is not a SHA-256, or both `images` and `owner` are given.
            PermissionDeniedError: You named another owner, and are no admin.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().delete_cached_images())
            ```

        """
        return self._listings.delete_cached_images(images, owner)

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
            with open_progress(progress) as report, report_lost_result():
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
        from .images.texts import queue_texts
        from .origins import record_fingerprints, remember_extraction

        options = ExtractOptions(batch_size=batch_size)
        queue, sent = record_fingerprints(queue_texts(texts))
        with open_progress(progress) as report, report_lost_result():
            result = self._features.extract_texts(model, queue, modules, options, progress=report)
        remember_extraction(result, sent, options=options)
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
        with open_progress(progress) as report, report_lost_result():
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
        with open_progress(progress) as report, report_lost_result():
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
        share: bool = False,
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
            name: Names the PCA for you, such as the set of images; PCAs of several models may have
                the same name.
            share: Whether others may use it by its SHA-256, as `share` says.
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
        with open_progress(progress) as report, report_lost_result():
            return self._features.fit_pca(
                model, images, modules, chosen,
                components=components, name=name, share=share, on_error=on_error,
                progress=report,
            )  # fmt: skip

    def pcas(self) -> list[PCA]:
        """Return your PCAs on the server, and those that others share with you.

        Returns:
            A record per PCA, the oldest first; an admin gets all.

        Example:
            ```python
            from thingsvision_client import Client

            for pca in Client().pcas():
                print(pca.name, pca.model_id, pca.component_count, pca.sha256)
            ```

        """
        return self._pcas.pcas()

    def delete_pca(self, pca: str) -> int:
        """Delete a PCA of yours from the server; it stays others' if they own it too.

        Args:
            pca: SHA-256 of the PCA, or your name for it if no other PCA of yours has it.

        Returns:
            The number of bytes freed; 0 if others own it too.

        Raises:
            UnknownPCAError: You have no such PCA.
            PermissionDeniedError: Others share it with you.
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

    def load(
        self, model: Model | str, progress: LoadProgress | None = None, *, on: str | None = None
    ) -> ResidentModel:
        """Load a model before its first use.

        Args:
            model: A Model, or `source/name[@weights]`.
            progress: Called with a stage (`waiting`, `loading` or `ready`) and the seconds since
                the start.
            on: The server of a cluster that is meant: its address or its machine's name, as
                `residency().servers` has them; or `all`, for all servers that take calls. By
                default the server that the gateway chooses for the model.

        Returns:
            The model as it is in memory: its device, its bytes and the SHA-256 of its weights. With
            `on="all"`, as it is on the first server.

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
        return self._models.load(model, progress, on)[0]

    def unload(self, model: Model | str, *, on: str | None = None) -> int:
        """Free a model's memory on the device.

        Args:
            model: A Model, or `source/name[@weights]`.
            on: The server of a cluster that is meant: its address or its machine's name, as
                `residency().servers` has them; or `all`, for all servers that have it. By
                default the server that the gateway chooses for the model.

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
        return self._models.unload(model, on)

    def pin(
        self, model: Model | str, pinned: bool = True, *, on: str | None = None
    ) -> ResidentModel:
        """Keep a model in memory until it is unpinned, or unpin it.

        Args:
            model: A Model, or `source/name[@weights]`; it is loaded if necessary.
            pinned: False unpins it.
            on: The server of a cluster that is meant: its address or its machine's name, as
                `residency().servers` has them; or `all`, for all servers that take calls. By
                default the server that the gateway chooses for the model.

        Returns:
            The model as it is in memory; with `on="all"`, as it is on the first server.

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
        return self._models.pin(model, pinned, on)[0]

    def residency(self, scope: str = "cluster") -> Residency:
        """Return which models are in memory, and the devices, of all servers of a cluster.

        Args:
            scope: `cluster`, for all servers that announce themselves beside the server that
                answers; or `server`, for that alone.

        Returns:
            The models, of each server the most recently used first, the devices with their memory
            in bytes, and the servers.

        Raises:
            InvalidRequestError: `scope` is another word.

        Example:
            ```python
            from thingsvision_client import Client

            residency = Client().residency()
            for model in residency.models:
                print(model.model_id, model.device, model.resident_bytes)
            print(residency.devices)
            ```

        """
        return self._models.residency(scope)

    def upload_weights(self, path: str | Path, *, share: bool = False) -> str:
        """Send a file of weights; nothing is sent if the server has it of you, or shared with you.

        An interrupted upload resumes where it stopped.

        Args:
            path: A state dict (safetensors, or saved by PyTorch) or a Keras file.
            share: Whether others may use it by its SHA-256, as `share` says.

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
        return self._models.upload_weights(path, share=share)

    def upload_model(
        self,
        path: str | Path,
        preprocessing: Preprocessing | Mapping[str, Any] | None = None,
        *,
        share: bool = False,
    ) -> Model:
        """Send a complete model, which then is `own/SHA256`.

        Args:
            path: File of torch.export (.pt2), ONNX (.onnx) or Keras (.keras).
            preprocessing: How images become its inputs: a Preprocessing, or a mapping with its
                fields, which is stored with the file. Without it the model takes tensors only.
            share: Whether others may use it by its SHA-256, as `share` says.

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
        return self._models.upload_model(path, preprocessing, share=share)

    def uploads(self) -> list[Upload]:
        """Return your uploaded files on the server, and those that others share with you.

        Returns:
            A record per file, the oldest first; an admin gets all.

        Example:
            ```python
            from thingsvision_client import Client

            for upload in Client().uploads():
                print(upload.name, upload.format, upload.size_bytes, upload.sha256)
            ```

        """
        return self._models.uploads()

    def delete_upload(self, sha256: str) -> int:
        """Delete an uploaded file of yours; it stays others' if they own it too.

        Args:
            sha256: SHA-256 of the file, as `upload_weights` and `uploads` return it.

        Returns:
            The number of bytes freed; 0 if others own it too.

        Raises:
            UnknownWeightsError: You have no such file.
            PermissionDeniedError: Others share it with you.
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

    def share(self, what: str | Model | Upload | PCA | CachedImage) -> Sharing:
        """Let others see and use what you left on the server: an upload, a PCA or a cached image.

        It is shared with your group, or, if your token has none, with everybody whom the server
        lets in. Others name it by its SHA-256, and can't change or delete it.

        Args:
            what: What `uploads`, `pcas` or `cached_images` returned, its SHA-256, or a model with
                it, such as `own/SHA256`.

        Returns:
            What it is, and whom it is shared with.

        Raises:
            NotFoundError: You have nothing with that SHA-256, and nobody shares it with you.
            PermissionDeniedError: Somebody shares it with you: only an owner can share it.
            InvalidRequestError: There is not one SHA-256 in it.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            pca = client.fit_pca("torchvision/alexnet", "photos", "features.10", components=2)
            print(client.share(pca))
            print(client.unshare(pca))
            ```

        """
        from .rpc.sharing import share

        return share(self._connection, what, shared=True)

    def unshare(self, what: str | Model | Upload | PCA | CachedImage) -> Sharing:
        """Stop sharing what you left on the server; requests that are using it finish with it.

        Args:
            what: As in `share`.

        Returns:
            What it is, and that it is shared with nobody.

        Raises:
            NotFoundError: As in `share`.
            PermissionDeniedError: As in `share`.
            InvalidRequestError: As in `share`.

        Example:
            ```python
            from thingsvision_client import Client

            client = Client()
            pca = client.fit_pca("torchvision/alexnet", "photos", "features.8", components=2)
            print(client.unshare(pca.sha256))
            ```

        """
        from .rpc.sharing import share

        return share(self._connection, what, shared=False)

    def move_owner(self, old: str, new: str, *, over_quota: bool = False) -> dict[str, int]:
        """Give all that a person left on the server to another person; this needs scope `admin`.

        A PCA whose name the other person has for another PCA of the same features gets the old
        owner's name behind its own. What was shared stays shared with the same people.

        Args:
            old: Name of the person who leaves, as in the server's tokens file.
            new: Name of the person whose it is from now on, or `admin`.
            over_quota: Whether the other person may have more uploads and PCAs than the server
                allows one person. Cached images beyond that are evicted.

        Returns:
            The number of things by kind: `upload`, `PCA`, `image`.

        Raises:
            PermissionDeniedError: You are not an admin.
            InvalidRequestError: The tokens file has nobody called `new`.
            StorageError: It exceeds what `new` may have, and `over_quota` is False; nothing was
                given.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().move_owner("somebody", "admin"))
            ```

        """
        from .rpc.sharing import move_owner

        return move_owner(self._connection, old, new, over_quota=over_quota)


@check_arguments
def connect(
    server: str,
    *,
    proxy: bool = True,
    token: str | None = None,
    ca: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
    plain_token: bool = False,
) -> Client:
    """Make a server the default of this process.

    Nothing is sent: a missing server raises UnavailableError at the first call, within 20 seconds.

    Args:
        server: Address, host:port.
        proxy: False connects without the proxy that the environment names (`http_proxy`), for all
            calls of this process to that server.
        token: The token for all calls of this process to that server; found as in `Client`.
        ca: PEM file of the authority to trust, as in `Client`.
        cert: PEM file of your own certificate, as in `Client`.
        key: PEM file of its private key.
        plain_token: True sends the token to another machine without encryption.

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
    address, credentials = _identify(
        check_address(server), token, TLSFiles(*map(_as_file, (ca, cert, key))), plain_token
    )
    set_proxy(address, proxy)
    if credentials is not None:
        set_credentials(address, credentials)
    client = shared_client(address)
    set_default_address(address)
    return client


def _identify(
    address: str, token: str | None, files: TLSFiles, plain_token: bool
) -> tuple[str, Credentials | None]:
    """Return the address, of TLS if files are given, and the credentials; None if none is given."""
    if files != TLSFiles():
        address = with_tls(address)
    if token is None and files == TLSFiles() and not plain_token:
        return address, None
    known = credentials_for(address)
    return address, known.override(token, files, plain_token=plain_token)


def _as_file(path: str | Path | None) -> str:
    """Return the name of a file, or an empty text for None."""
    return "" if path is None else os.fspath(path)


def shared_client(server: str | None = None) -> Client:
    """Return this process's shared client of a server, which is found as in `Client`."""
    address = resolve_address(server)
    if encrypts_everywhere():
        address = with_tls(address)
    return _client_at(address, may_use_proxy(address), credentials_for(address))


@cache
def _client_at(address: str, proxy: bool, _credentials: Credentials) -> Client:
    return Client(address, proxy=proxy)
