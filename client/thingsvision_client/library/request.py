"""One call for features of the library: into memory with their origin, or into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import Client
from ..errors import InvalidRequestError
from ..origins import chosen_options, recording_fingerprints, remember_extraction
from ..values.model import Model
from ..values.preprocessing import PreprocessingOverrides
from ..values.reductions import FeatureOptions
from .batches import Batches
from .outputs import flattener

if TYPE_CHECKING:
    from ..arrays import Array
    from ..jobs import FolderOptions
    from ..progress import Progress


@dataclass(frozen=True)
class ServedModel:
    """A model of a server, and what is done in each call for its features.

    `backend` is `pt` or `tf`. `changes` are made of the model's own preprocessing where a dataset
    asks for none. `flatten_fn` flattens activations on this machine, see `outputs.flattener`.
    """

    client: Client
    model: Model
    backend: str = "pt"
    token_extraction: str | None = None
    changes: PreprocessingOverrides | None = None
    flatten_fn: Callable[..., Any] | None = None
    options: FeatureOptions = field(default_factory=FeatureOptions)


@dataclass(frozen=True)
class FeatureRequest:
    """Which modules' features are asked for, of which images."""

    served: ServedModel
    images: Batches
    modules: list[str]
    flatten: bool
    progress: Progress | None = None

    def arrays(self) -> dict[str, Array]:
        """Return images x shape by module; their origin is remembered."""
        queue, sent = recording_fingerprints(self.images.images())
        flatten_fn, choices = self._flatten_fn, chosen_options(self.served.options)
        result = self.served.client.extract(
            self.served.model,
            queue,
            self.modules,
            batch_size=self.images.batch_size,
            token_extraction=self.served.token_extraction,
            preprocessing=self._changes,
            **vars(self.served.options),
            flatten=self.flatten and flatten_fn is None,
            progress=self.progress,
        )
        remember_extraction(
            result,
            sent,
            root=self.images.root,
            changes=self._changes,
            choices=choices,
        )
        if flatten_fn is None:
            return result.features
        flatten = flattener(flatten_fn, self.served)
        return {name: flatten(array) for name, array in result.features.items()}

    def to_folder(self, folder: Path, options: FolderOptions) -> None:
        """Write files of rows as they arrive. Raises InvalidRequestError where that can't be."""
        from ..jobs import Task, extract_to_folder  # they load pyarrow

        if self._flatten_fn is not None:
            raise InvalidRequestError(
                "flatten_fn needs all activations in memory: leave out output_dir, or flatten_acts."
            )
        task = Task(
            self.served.model,
            tuple(self.modules),
            self.images.images,
            self.images.batch_size,
            self.served.token_extraction,
            self._changes,
            self.flatten,
            self.images.root,
            self.served.options,
        )
        client = self.served.client
        extract_to_folder(client, task, folder, options=options, progress=self.progress)

    @property
    def _flatten_fn(self) -> Callable[..., Any] | None:
        return self.served.flatten_fn if self.flatten else None

    @property
    def _changes(self) -> PreprocessingOverrides | None:
        if self.images.are_inputs:
            return None
        return self.images.changes or self.served.changes
