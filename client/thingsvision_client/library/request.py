"""One request of the library for features, into memory with their origin or into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import Client
from ..display.progress import open_progress
from ..errors import BadImage, BadImagesError, InvalidRequestError
from ..jobs import FolderOptions, Task, extract_to_folder
from ..origins import Fingerprint, record_fingerprints, remember_extraction
from ..values.model import Model
from ..values.options import ExtractOptions
from .batches import Batches
from .outputs import flattener
from .own_programs import OwnNetwork

if TYPE_CHECKING:
    from ..arrays import Array
    from ..display.progress import ProgressChoice
    from ..rpc.extraction import Extraction


@dataclass(frozen=True)
class Choices:
    """What a user asked for: the arguments of `get_extractor`."""

    model_name: str
    pretrained: bool = True
    device: Any = None
    model_path: Any = None
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    share: bool = False


OWN_NETWORK = Choices("custom")
"""Those of a network of the user's process, under the name that the library gives it."""


@dataclass(frozen=True)
class ServedModel:
    """A model of a server, and what is done in each call for its features.

    `backend` is `pt` or `tf`. `options` are those of each call; a dataset's own preprocessing
    comes before theirs. `flatten_fn` flattens activations on this machine, see
    `outputs.flattener`. `network` is a network of this process, which was sent for some shapes of
    inputs.
    """

    client: Client
    model: Model
    backend: str = "pt"
    options: ExtractOptions = field(default_factory=ExtractOptions)
    flatten_fn: Callable[..., Any] | None = None
    choices: Choices = OWN_NETWORK
    network: OwnNetwork | None = field(default=None, compare=False, repr=False)

    def for_inputs(self, shape: tuple[int, ...] | None) -> ServedModel:
        """Return this for ready inputs of a shape, or with None for images to be preprocessed.

        A network of this process is sent for that shape if it was not yet. Raises
        InvalidRequestError if it can't be.
        """
        if self.network is None:
            return self
        return replace(self, model=self.network.send(self.client, shape))


@dataclass(frozen=True)
class FeatureRequest:
    """Which modules' features are asked for, of which images."""

    served: ServedModel
    images: Batches
    modules: list[str]
    flatten: bool
    on_error: str = "raise"
    progress: ProgressChoice = None
    streams: int | str = 1
    allow_mixed: bool = False

    def arrays(self) -> tuple[dict[str, Array], tuple[BadImage, ...]]:
        """Return images x shape by module, and the images without a row; remember their origin.

        Raises BadImagesError with the arrays as its `result`.
        """
        queue, sent = record_fingerprints(self.images.images())
        error: BadImagesError | None = None
        try:
            result = self.served.client.extract(
                self.served.model,
                queue,
                self.modules,
                **vars(self._options),
                flatten=self.flatten and self._flatten_fn is None,
                on_error=self.on_error,
                progress=self.progress,
            )
        except BadImagesError as failure:
            if failure.result is None:
                raise
            error, result = failure, failure.result
        features = self._finish(result, sent)
        if error is not None:
            raise error.with_result(features)
        return features, result.skipped

    def _finish(self, result: Extraction, sent: Iterable[Fingerprint]) -> dict[str, Array]:
        remember_extraction(result, sent, options=self._options, root=self.images.root)
        if self._flatten_fn is None:
            return result.features
        flatten = flattener(self._flatten_fn, self.served)
        return {name: flatten(array) for name, array in result.features.items()}

    def to_folder(self, folder: Path, options: FolderOptions) -> list[BadImage]:
        """Write files of rows as they arrive, and return the images without a row.

        Raises InvalidRequestError where that can't be.
        """
        if self._flatten_fn is not None:
            raise InvalidRequestError(
                "`flatten_fn` needs all activations in memory: leave out output_dir, or "
                "flatten_acts."
            )
        task = Task(
            model=self.served.model,
            modules=tuple(self.modules),
            images=self.images.images,
            options=self._options,
            flatten=self.flatten,
            root=self.images.root,
        )
        with open_progress(self.progress) as progress:
            return extract_to_folder(
                self.served.client,
                task,
                folder,
                options=options,
                on_error=self.on_error,
                progress=progress,
            )

    @property
    def _flatten_fn(self) -> Callable[..., Any] | None:
        return self.served.flatten_fn if self.flatten else None

    @cached_property
    def _options(self) -> ExtractOptions:
        options, images = self.served.options, self.images
        asked = images.transforms.for_model(self.served.model)
        changes = None if images.are_inputs else asked or options.preprocessing
        return replace(
            options,
            batch_size=images.batch_size,
            preprocessing=changes,
            streams=self.streams,
            allow_mixed=self.allow_mixed,
        )
