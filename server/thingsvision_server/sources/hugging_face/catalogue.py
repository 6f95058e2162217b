"""Describes the networks and inputs of this server's checkpoints of the library `transformers`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import PreconditionError
from ...inputs import IMAGE, TEXT, InputTransform
from ..base import ModelKey
from ..weights.folder import PublishedWeights
from ..weights.state_dicts import StateDict
from .folders import CONFIG, LOCAL_ONLY, PROCESSORS, ModelFolder, ModelFolders

if TYPE_CHECKING:
    from torch import nn

SOURCE = "transformers"
TAG = "checkpoint"
"""The one tag of every model: the weights in its folder."""

_Fingerprint = tuple[Path, tuple[int, ...]]
"""A checkpoint's folder, and when each file in `_DESCRIPTIONS` was last changed."""

_MOST_TOKENS = 8192
"""The limit for tokenizers that name none: the library then gives an astronomically large one."""

_DESCRIPTIONS = (CONFIG, *PROCESSORS, "tokenizer_config.json", "tokenizer.json")
"""Files that decide how inputs are made; they are read again after a change."""


class FolderCatalogue:
    """A NetworkCatalogue over the checkpoints in folders."""

    source = SOURCE

    def __init__(self, folders: ModelFolders) -> None:
        self._folders = folders
        self._opened: dict[_Fingerprint, _Inputs] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all checkpoints now on this server, sorted."""
        return self._folders.names()

    def tags(self, _name: str) -> list[str]:
        """Return the one tag."""
        return [TAG]

    def find_published(self, _name: str, _tag: str) -> PublishedWeights:
        """Return an empty location: a checkpoint is several files."""
        return PublishedWeights()

    def config(self, folder: ModelFolder) -> Any:
        """Return the library's config object of a checkpoint."""
        from transformers import AutoConfig

        from .networks import translate_errors

        with translate_errors(f"{SOURCE}/{folder.name}"):
            return AutoConfig.from_pretrained(folder.path, **LOCAL_ONLY)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the image processor's transform, and the tokenizer's if there is one."""
        return self._inputs(key.name).transforms

    def why_no_texts(self, name: str) -> str:
        """Return why a network with a text tower can't take texts here; empty for any other."""
        return self._inputs(name).why_no_texts

    def towers(self, network: Any) -> Mapping[str, nn.Module]:
        """Return the network's image tower, and its text tower if it has one."""
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
        from .networks import build_from_state

        config = self.config(self._folders.find(name))
        network: nn.Module = build_from_state(config, state, name).network
        return network

    def known_transforms(self, folder: ModelFolder) -> Mapping[str, InputTransform]:
        """Return a checkpoint's transforms if they were opened before, else an empty mapping."""
        known = self._opened.get(_fingerprint(folder))
        return known.transforms if known else {}

    def _inputs(self, name: str) -> _Inputs:
        folder = self._folders.find(name)
        fingerprint = _fingerprint(folder)
        with self._lock:
            if fingerprint not in self._opened:
                self._opened[fingerprint] = _open_inputs(folder, self.config(folder))
            return self._opened[fingerprint]


@dataclass(frozen=True)
class _Inputs:
    """The transforms of one checkpoint."""

    transforms: Mapping[str, InputTransform]
    why_no_texts: str = ""
    """Why a network with a text tower can't be given texts; empty if it can, or has none."""


def _fingerprint(folder: ModelFolder) -> _Fingerprint:
    return folder.path, tuple(_mtime_ns(folder.path / file) for file in _DESCRIPTIONS)


def _mtime_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _open_inputs(folder: ModelFolder, config: Any) -> _Inputs:
    from transformers import AutoImageProcessor

    from .image_processors import fitting_transform, processor_transform
    from .networks import network_class, sees_texts, translate_errors
    from .text_tokenizers import TextTokenizer, open_tokenizer

    with translate_errors(f"the image processor of {SOURCE}/{folder.name}"):
        processor = AutoImageProcessor.from_pretrained(folder.path, **LOCAL_ONLY)
        images = fitting_transform(processor_transform(processor), config, folder.name)
        transforms = {IMAGE: images}
    if not sees_texts(network_class(config)):
        return _Inputs(transforms)
    try:
        tokenizer = open_tokenizer(folder.path)
    except PreconditionError as error:
        return _Inputs(transforms, f"it takes texts, but {error}")
    texts = TextTokenizer(lambda: tokenizer, _text_length(tokenizer, config))
    return _Inputs({**transforms, TEXT: texts.transform(type(tokenizer).__name__)})


def _text_length(tokenizer: Any, config: Any) -> int:
    positions = getattr(getattr(config, "text_config", None), "max_position_embeddings", None)
    return min(int(tokenizer.model_max_length), positions or _MOST_TOKENS)
