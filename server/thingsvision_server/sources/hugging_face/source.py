"""The source `transformers`: every checkpoint on this server that the library loads by itself.

`AutoModel` builds the network, `AutoImageProcessor` its preprocessing; code that ships with a
checkpoint is never run. The library is imported with the first model, not to list models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...errors import (
    ThingsvisionError,
    UnknownWeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from ...inputs import IMAGE, InputTransform
from ..base import (
    ModelEntry,
    ModelKey,
    Pretrained,
    PretrainedEntry,
    Random,
    Uploaded,
    WeightsState,
)
from ..context import SourceContext
from ..weights.folder import WeightsFolder
from ..weights.state_dicts import StateDict
from .catalogue import SOURCE, TAG, FolderCatalogue
from .extractability import exclude_untrained, not_extractable
from .folders import ModelFolder, ModelFolders

if TYPE_CHECKING:
    from torch import nn

    from ..catalogues.pytorch import PyTorchSource
    from ..catalogues.uploaded import Recipe


def open_source(context: SourceContext) -> TransformersSource:
    """Open the source."""
    return TransformersSource(context.weights)


class TransformersSource:
    """A ModelSource over the checkpoints on this server."""

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights
        self._folders = ModelFolders(weights)
        self._catalogue = FolderCatalogue(self._folders)
        self._missing_at_load: dict[Path, Collection[str]] = {}

    def names(self) -> list[str]:
        """Return the names of all checkpoints now on this server, sorted."""
        return self._folders.names()

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these checkpoints; the library is not imported for them."""
        for name in names:
            try:
                folder = self._folders.find(name)
            except ThingsvisionError:  # it was removed meanwhile
                continue
            used = self._catalogue.known_transforms(folder).get(IMAGE)
            preprocessing = used.preprocessing if used else None
            weights = PretrainedEntry(TAG, True, self._state(folder), preprocessing)
            yield ModelEntry(SOURCE, name, (weights,), input_shape=used.spec.shape if used else ())

    def _state(self, folder: ModelFolder) -> WeightsState:
        if folder.weight_files:
            return WeightsState.PRESENT
        fetchable = self._folders.can_fetch(folder)
        return WeightsState.DOWNLOADABLE if fetchable else WeightsState.MISSING

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise if there are no such weights."""
        self._folders.find(key.name)
        if isinstance(key.weights, Uploaded):
            self._weights.find_upload(key.weights.sha256)
        if not isinstance(key.weights, Pretrained):
            return key
        if key.weights.tag not in ("", TAG):
            sentence = f"{key.name} has no pretrained weights {key.weights.tag!r}. Valid: '{TAG}'."
            field = "model.pretrained_tag"
            raise UnknownWeightsError(sentence, field=field, subject=key.weights.tag)
        return replace(key, weights=Pretrained(TAG))

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a model; modules that lack weights are marked not extractable.

        Without the weight files the structure is provisional: the missing keys are not known yet.
        """
        structure = self._networks.structure(replace(key, weights=Random(0)), image_shape)
        no_texts = self._catalogue.why_no_texts(key.name)
        if no_texts:
            structure = not_extractable(structure, lambda module: "" if module.calls else no_texts)
        if not isinstance(key.weights, Pretrained):
            return structure
        folder = self._folders.find(key.name)
        if folder.weight_files:
            return exclude_untrained(structure, self._find_missing_keys(folder))
        # A model in memory may have outlived its files.
        missing = self._missing_at_load.get(folder.path, ())
        return replace(exclude_untrained(structure, missing), is_provisional=True)

    def _find_missing_keys(self, folder: ModelFolder) -> Collection[str]:
        from ...backends.torch.seeding import seed_thread
        from .networks import build_from_state, placeholders

        config, state = self._catalogue.config(folder), placeholders(folder.shapes())
        with seed_thread(0):
            missing: Collection[str] = build_from_state(config, state, str(folder.path)).missing
        return missing

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the image processor's transform, and the tokenizer's if there is one."""
        return self._catalogue.transforms(key)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build the network with its weights on a device."""
        from ...backends.torch.model import TorchModel
        from ...backends.torch.seeding import seed_thread

        if isinstance(key.weights, Random):
            return self._networks.load(key, device)
        with seed_thread(0):
            network, part = self._build_with_weights(key)
        return TorchModel(network, device, self._catalogue.towers(network), weights_part=part)

    def _build_with_weights(self, key: ModelKey) -> tuple[nn.Module, str]:
        from .networks import build_from_state

        folder = self._folders.find(key.name)
        if isinstance(key.weights, Uploaded):
            from ..catalogues.uploaded import load_uploaded

            return load_uploaded(key, key.weights, self._weights, self._recipe(folder))
        folder = self._folders.fetch_weights(folder)
        if not folder.weight_files:
            raise _weights_missing(key, folder)
        config, called = self._catalogue.config(folder), str(folder.path)
        loaded = build_from_state(config, folder.state(), called)
        self._missing_at_load[folder.path] = loaded.missing
        return loaded.network, ""

    def _recipe(self, folder: ModelFolder) -> Recipe:
        from ..catalogues.uploaded import Recipe
        from .networks import build_from_state

        def fill(state: StateDict, called: str) -> nn.Module:
            called = f"{called} for {SOURCE}/{folder.name}"
            loaded = build_from_state(self._catalogue.config(folder), state, called)
            _check_complete(loaded.missing, loaded.unexpected, called)
            network: nn.Module = loaded.network
            return network

        return Recipe(dict, lambda _: self._catalogue.build(folder.name), fill)

    @cached_property
    def _networks(self) -> PyTorchSource:
        from ..catalogues.pytorch import PyTorchSource

        return PyTorchSource(self._catalogue, self._weights)


def _check_complete(missing: Collection[str], unexpected: Collection[str], called: str) -> None:
    keys = {"missing": missing, "unexpected": unexpected}
    parts = [f"{kind}: {', '.join(sorted(names))}" for kind, names in keys.items() if names]
    if parts:
        sentence = f"{called} does not fit; {'; '.join(parts)}"
        raise WeightsMismatchError(sentence, field="model.weights_sha256")


def _weights_missing(key: ModelKey, folder: ModelFolder) -> WeightsMissingError:
    sentence = (
        f"the weights of {key} are not on this server. Put model.safetensors (or "
        f"pytorch_model.bin) into {folder.path}, or upload a state dict"
    )
    return WeightsMissingError(sentence, field="model.weights", subject=str(key))
