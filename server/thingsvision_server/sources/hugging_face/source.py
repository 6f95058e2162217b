"""The source `transformers`: every checkpoint on this server that the library loads by itself.

`AutoModel` builds the network, `AutoImageProcessor` its preprocessing; code that a checkpoint
brings is never run. The library is imported when the first model is asked for, not for a list.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...errors import (
    PreconditionError,
    ThingsvisionError,
    UnknownWeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from ...inputs import IMAGE, TEXT, InputTransform
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
from ..weights.folder import PublishedWeights, WeightsFolder
from ..weights.state_dicts import StateDict, read_state_dict
from .barring import barred, without_untrained
from .folders import CONFIG, PROCESSORS, ModelFolder, ModelFolders

if TYPE_CHECKING:
    from torch import nn

    from ..catalogues.pytorch import PyTorchSource

SOURCE = "transformers"
TAG = "checkpoint"
"""The one tag of every model: the weights in its folder."""

_Described = tuple[Path, tuple[int, ...]]
"""A checkpoint's folder, and when its descriptions were changed."""

_MOST_TOKENS = 8192
"""Of tokenizers that name no limit, the library says an astronomic one."""

_DESCRIPTIONS = (CONFIG, *PROCESSORS, "tokenizer_config.json", "tokenizer.json")
"""Files that decide how inputs are made; where one changes, they are read anew."""


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
        """Return the names of all checkpoints that are here now, sorted."""
        return self._folders.names()

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield what is known of these checkpoints: of those not yet used, without the library."""
        for name in names:
            try:
                folder = self._folders.find(name)
            except ThingsvisionError:  # it was taken away meanwhile
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
        """Return the key with its weights named in full; raise where there are none such."""
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
        """Return the modules of a model; what its checkpoint has no weights for is barred.

        While its weights are not here the modules are provisional: nobody knows what it lacks.
        """
        structure = self._networks.structure(replace(key, weights=Random(0)), image_shape)
        no_texts = self._catalogue.why_no_texts(key.name)
        if no_texts:
            structure = barred(structure, lambda module: "" if module.calls else no_texts)
        if not isinstance(key.weights, Pretrained):
            return structure
        folder = self._folders.find(key.name)
        if folder.weight_files:
            return without_untrained(structure, self._missing(folder))
        # A model in memory may have outlived its files.
        missing = self._missing_at_load.get(folder.path, ())
        return replace(without_untrained(structure, missing), is_provisional=True)

    def _missing(self, folder: ModelFolder) -> Collection[str]:
        from ...backends.torch.seeding import seed_thread
        from .networks import fill, shapes_only

        config, state = self._catalogue.config(folder), shapes_only(folder.shapes())
        with seed_thread(0):
            missing: Collection[str] = fill(config, state, str(folder.path)).missing
        return missing

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the processor's own preprocessing, and the tokenizer's if there is one."""
        return self._catalogue.transforms(key)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build the network with its weights on a device."""
        from ...backends.torch.model import TorchModel
        from ...backends.torch.seeding import seed_thread

        if isinstance(key.weights, Random):
            return self._networks.load(key, device)
        with seed_thread(0):
            network = self._filled(key)
        return TorchModel(network, device, self._catalogue.towers(network))

    def _filled(self, key: ModelKey) -> nn.Module:
        from .networks import fill

        folder = self._folders.find(key.name)
        if isinstance(key.weights, Uploaded):
            state = read_state_dict(self._weights.find_upload(key.weights.sha256))
            called = f"the uploaded state dict for {key.source}/{key.name}"
            filled = fill(self._catalogue.config(folder), state, called)
            _check_complete(filled.missing, filled.unexpected, called)
            uploaded: nn.Module = filled.network
            return uploaded
        folder = self._folders.with_weights(folder)
        if not folder.weight_files:
            raise _missing_weights(key, folder)
        config, called = self._catalogue.config(folder), str(folder.path)
        filled = fill(config, folder.state(), called)
        self._missing_at_load[folder.path] = filled.missing
        network: nn.Module = filled.network
        return network

    @cached_property
    def _networks(self) -> PyTorchSource:
        from ..catalogues.pytorch import PyTorchSource

        return PyTorchSource(self._catalogue, self._weights)


class FolderCatalogue:
    """What the library knows of the checkpoints, by the files in their folders."""

    source = SOURCE

    def __init__(self, folders: ModelFolders) -> None:
        self._folders = folders
        self._opened: dict[_Described, _Inputs] = {}
        self._opening = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all checkpoints that are here now, sorted."""
        return self._folders.names()

    def tags(self, _name: str) -> list[str]:
        """Return the one tag."""
        return [TAG]

    def find_published(self, _name: str, _tag: str) -> PublishedWeights:
        """Return nothing: a checkpoint is several files."""
        return PublishedWeights()

    def config(self, folder: ModelFolder) -> Any:
        """Return the library's own config of a checkpoint."""
        from transformers import AutoConfig

        from .networks import unusable

        with unusable(f"{SOURCE}/{folder.name}"):
            return AutoConfig.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False
            )

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the processor's own preprocessing, and the tokenizer's if there is one."""
        return self._inputs(key.name).transforms

    def why_no_texts(self, name: str) -> str:
        """Return why a network that sees texts can't be given any here; empty for others."""
        return self._inputs(name).why_no_texts

    def towers(self, network: Any) -> Mapping[str, nn.Module]:
        """Return the parts of a network that see images and texts."""
        from .networks import image_tower, sees_texts, text_tower

        towers: dict[str, nn.Module] = {IMAGE: image_tower(network)}
        if sees_texts(network):
            towers[TEXT] = text_tower(network)
        return towers

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        from .networks import build

        network: nn.Module = build(self.config(self._folders.find(name)))
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with these tensors."""
        from .networks import fill

        network: nn.Module = fill(self.config(self._folders.find(name)), state, name).network
        return network

    def known_transforms(self, folder: ModelFolder) -> Mapping[str, InputTransform]:
        """Return a checkpoint's transforms if it was used already; else none."""
        known = self._opened.get(_described(folder))
        return known.transforms if known else {}

    def _inputs(self, name: str) -> _Inputs:
        folder = self._folders.find(name)
        described = _described(folder)
        with self._opening:
            if described not in self._opened:
                self._opened[described] = _open_inputs(folder, self.config(folder))
            return self._opened[described]


@dataclass(frozen=True)
class _Inputs:
    """How the inputs of one checkpoint are made."""

    transforms: Mapping[str, InputTransform]
    why_no_texts: str = ""
    """Why a network that sees texts can't be given any; empty where it can, or sees none."""


def _described(folder: ModelFolder) -> _Described:
    return folder.path, tuple(_changed_at(folder.path / file) for file in _DESCRIPTIONS)


def _changed_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _open_inputs(folder: ModelFolder, config: Any) -> _Inputs:
    from transformers import AutoImageProcessor

    from .image_processors import transform_by
    from .networks import kind_of, sees_texts, unusable
    from .text_tokenizers import TextTokenizer, open_tokenizer

    with unusable(f"the image processor of {SOURCE}/{folder.name}"):
        processor = AutoImageProcessor.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        transforms = {IMAGE: transform_by(processor)}
    if not sees_texts(kind_of(config)):
        return _Inputs(transforms)
    try:
        tokenizer = open_tokenizer(folder.path)
    except PreconditionError as error:
        return _Inputs(transforms, f"it sees texts, and {error}")
    texts = TextTokenizer(lambda: tokenizer, _text_length(tokenizer, config))
    return _Inputs({**transforms, TEXT: texts.transform(type(tokenizer).__name__)})


def _text_length(tokenizer: Any, config: Any) -> int:
    positions = getattr(getattr(config, "text_config", None), "max_position_embeddings", None)
    return min(int(tokenizer.model_max_length), positions or _MOST_TOKENS)


def _check_complete(missing: Collection[str], unexpected: Collection[str], called: str) -> None:
    lacks = f"missing: {', '.join(sorted(missing))}" if missing else ""
    more = f"unexpected: {', '.join(sorted(unexpected))}" if unexpected else ""
    if lacks or more:
        sentence = f"{called} does not fit; {'; '.join(filter(None, [lacks, more]))}"
        raise WeightsMismatchError(sentence, field="model.weights_sha256")


def _missing_weights(key: ModelKey, folder: ModelFolder) -> WeightsMissingError:
    sentence = (
        f"the weights of {key} are not on this server. Put model.safetensors (or "
        f"pytorch_model.bin) into {folder.path}, or upload a state dict"
    )
    return WeightsMissingError(sentence, field="model.weights", subject=str(key))
