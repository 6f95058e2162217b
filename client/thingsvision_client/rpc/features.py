"""The calls that send images, texts or features. They load numpy and pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..arrays import Array
from ..display.progress import Progress
from ..images.queue import ImageQueue, Images, queue_images
from ..images.texts import Texts, queue_texts, text_tower
from ..values.model import Model
from ..values.options import ExtractOptions
from ..values.pca import PCA
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from .bad_images import STOP, check_on_error
from .connection import Connection
from .extract_call import extract_header
from .extraction import Extraction, extract, extract_in_streams
from .feature_stream import FeatureStream, stream
from .inputs import Inputs, preprocess
from .listings import Listings
from .pcas import fit_pca, pca_header
from .rdms import RDMs, prepare_features, rdm_header, rdms_of_features, rdms_of_images


class FeatureCalls:
    """Extracts and compares features; the methods are those of `Client` by the same names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def extract(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        options: ExtractOptions,
        *,
        on_error: str = STOP,
        progress: Progress | None = None,
    ) -> Extraction:
        """Return the features of all images in memory."""
        queue, on_error = queue_images(images), check_on_error(on_error)
        header = extract_header(model, modules, queue, options)
        if options.streams == 1:
            return extract(self._connection, header, queue, on_error=on_error, progress=progress)
        return extract_in_streams(
            self._connection, header, queue, options=options, on_error=on_error, progress=progress
        )

    def preprocess(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        preprocessing: PreprocessingOverrides | Preprocessing | None,
    ) -> Inputs:
        """Return the images as the model's inputs."""
        return preprocess(self._connection, model, queue_images(images), preprocessing)

    def extract_texts(
        self,
        model: Model | str,
        texts: Texts | ImageQueue,
        modules: str | Sequence[str] | None,
        options: ExtractOptions,
        *,
        progress: Progress | None = None,
    ) -> Extraction:
        """Return the features of texts; `modules` None selects the model's text tower."""
        queue = texts if isinstance(texts, ImageQueue) else queue_texts(texts)
        if modules is None:
            modules = text_tower(Listings(self._connection).modules(model))
        found = self.extract(model, queue, modules, options, progress=progress)
        return replace(found, inputs="texts")

    def stream(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        options: ExtractOptions,
        *,
        on_error: str = STOP,
    ) -> FeatureStream:
        """Return the features of all images as they arrive."""
        queue, on_error = queue_images(images), check_on_error(on_error)
        header = extract_header(model, modules, queue, options)
        return stream(self._connection, header, queue, options=options, on_error=on_error)

    def rdm(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        options: ExtractOptions,
        *,
        metric: str,
        dtype: str,
        on_error: str = STOP,
        progress: Progress | None = None,
    ) -> RDMs:
        """Return an RDM of the images per module."""
        queue, on_error = queue_images(images), check_on_error(on_error, stops=True)
        header = rdm_header(metric, dtype, extract_header(model, modules, queue, options))
        return rdms_of_images(self._connection, header, queue, on_error=on_error, progress=progress)

    def rdm_of(
        self,
        features: Array | Mapping[str, Array],
        names: Sequence[str] | None,
        *,
        metric: str,
        dtype: str,
        progress: Progress | None = None,
    ) -> RDMs:
        """Return an RDM per array of uploaded features."""
        header = rdm_header(metric, dtype)
        arrays, rows = prepare_features(features, names)
        return rdms_of_features(self._connection, header, arrays, names=rows, progress=progress)

    def fit_pca(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        options: ExtractOptions,
        *,
        components: int,
        name: str,
        share: bool = False,
        on_error: str = STOP,
        progress: Progress | None = None,
    ) -> PCA:
        """Fit a PCA of each module on the features of images."""
        queue, on_error = queue_images(images), check_on_error(on_error, stops=True)
        extraction = extract_header(model, modules, queue, options)
        header = pca_header(extraction, components, name, share=share)
        return fit_pca(self._connection, header, queue, on_error=on_error, progress=progress)
