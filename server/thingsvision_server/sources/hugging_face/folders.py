"""Finds checkpoints of the library `transformers` on disk, and reads them without the library.

A checkpoint is a folder with a config, an image processor and weights, as `save_pretrained`
writes it, in one of:

    {weights}/transformers/{name}                              put there by hand
    {weights}/huggingface/hub/models--{owner}--{name}/...      like ~/.cache/huggingface
    ~/.cache/huggingface                                       the user's own
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import (
    InvalidRequestError,
    InvalidWeightsError,
    PreconditionError,
    UnknownModelError,
    choices,
)
from ...shortages import raise_shortage
from ..weights.downloads import check_hub
from ..weights.folder import HUB_FILES, WeightsFolder, user_hub_cache
from ..weights.state_dicts import StateDict, read_state_dict

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")

LOCAL_ONLY: Mapping[str, bool] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of `from_pretrained`: nothing is downloaded, and no code of a checkpoint is run."""

_DESCRIPTIONS = ("*.json", "*.txt", "*.model")
_WEIGHT_PATTERNS = (
    ("model.safetensors", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin"),
)
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
"""A folder, or a folder in a folder: never a path that leaves the folder of checkpoints."""


@dataclass(frozen=True)
class ModelFolder:
    """One checkpoint; its files are read lazily."""

    name: str
    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of its config; empty if the file is missing or unreadable."""
        return _read_json(self.path / CONFIG)

    @cached_property
    def processor(self) -> dict[str, Any]:
        """The settings of its image processor; empty if the checkpoint has none."""
        alone, nested = (_read_json(self.path / file) for file in PROCESSORS)
        found: dict[str, Any] = alone or nested.get("image_processor") or {}
        return found

    @property
    def why_not(self) -> str:
        """Why it can't be served; empty if it can."""
        return next((reason for found, reason in self._obstacles() if found), "")

    def _obstacles(self) -> Iterator[tuple[object, str]]:
        yield (
            "auto_map" in self.config or "auto_map" in self.processor,
            "it needs Python code of its own (auto_map), and this server never runs code from a "
            "checkpoint",
        )
        yield not self.config.get("model_type"), f"its {CONFIG} does not name a model_type"
        yield (
            "quantization_config" in self.config,
            "its weights are quantized; use a checkpoint with float weights instead",
        )
        yield (
            not self.processor,
            f"it has no {PROCESSORS[0]}, which defines how images are preprocessed; put one into "
            f"{self.path}",
        )
        sound = "sampling_rate" in self.processor
        yield sound, f"its {PROCESSORS[0]} is for audio, not images"

    @property
    def weight_files(self) -> list[Path]:
        """Its weight files, safetensors preferred; empty if they are not on this server."""
        for name in HUB_FILES:
            shards = self._shards(name)
            if shards and all(shard.is_file() for shard in shards):
                return shards
        return []

    def _shards(self, name: str) -> list[Path]:
        index = self.path / f"{name}.index.json"
        if (self.path / name).is_file() or not index.is_file():
            return [self.path / name]
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if any(Path(shard).name != shard for shard in names):
            raise InvalidWeightsError(f"{index} names files outside its folder", subject=index.name)
        return [self.path / shard for shard in names]

    def state(self) -> StateDict:
        """Return the tensors of its weights; raise InvalidWeightsError for an unreadable file."""
        state: StateDict = {}
        for file in self.weight_files:
            state |= read_state_dict(file, called=f"{self.name}/{file.name}")
        return state

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors of its weights."""
        shapes: dict[str, tuple[int, ...]] = {}
        for file in self.weight_files:
            shapes |= _shapes(file, called=f"{self.name}/{file.name}")
        return shapes


class ModelFolders:
    """The checkpoints on this server; each call searches anew, so they can be added at any time."""

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights
        self.home = weights.root / "transformers"
        self._cache = weights.hub_cache

    def names(self) -> list[str]:
        """Return the names of all checkpoints that can be served, sorted."""
        found = {**dict(self._in_hub_caches()), **dict(self._in_home())}
        return sorted(
            name
            for name, path in found.items()
            if _is_name(name) and not ModelFolder(name, path).why_not
        )

    def find(self, name: str) -> ModelFolder:
        """Return a checkpoint by its name; fetch its config files if necessary.

        Raises InvalidRequestError for an invalid name, UnknownModelError if there is no such
        checkpoint, PreconditionError if it can't be served.
        """
        if not _is_name(name):
            sentence = (
                f"transformers has no model {name!r}: the name must be a folder in {self.home} or "
                "a repository's owner/name, not a path"
            )
            raise InvalidRequestError(sentence, field="model.name", subject=name)
        folder = ModelFolder(name, self._path(name) or self._fetch(name, _DESCRIPTIONS))
        if folder.why_not:
            sentence = f"the checkpoint transformers/{name} can't be served: {folder.why_not}"
            raise PreconditionError(sentence, field="model.name", subject=name)
        return folder

    def fetch_weights(self, folder: ModelFolder) -> ModelFolder:
        """Return the checkpoint with its weights, which are fetched if missing and allowed."""
        for patterns in _WEIGHT_PATTERNS:
            if folder.weight_files or not self.can_fetch(folder):
                break
            path = self._fetch(folder.name, (*_DESCRIPTIONS, *patterns))
            folder = ModelFolder(folder.name, path)
        return folder

    def can_fetch(self, folder: ModelFolder) -> bool:
        """Tell whether missing weights can be fetched: never for a folder put there by hand."""
        return self._weights.allows_download and self.home not in folder.path.parents

    def _path(self, name: str) -> Path | None:
        own = self.home / name
        if (own / CONFIG).is_file():
            return own
        repositories = (cache / _repository_folder(name) for cache in self._caches())
        return next((path for path in map(_snapshot, repositories) if path), None)

    def _in_home(self) -> Iterator[tuple[str, Path]]:
        for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}"):
            for file in self.home.glob(pattern):
                yield file.parent.relative_to(self.home).as_posix(), file.parent

    def _in_hub_caches(self) -> Iterator[tuple[str, Path]]:
        for cache in self._caches():
            for repository in cache.glob("models--*"):
                path = _snapshot(repository)
                if path:
                    yield repository.name.removeprefix("models--").replace("--", "/", 1), path

    def _caches(self) -> list[Path]:
        return [self._cache, Path(user_hub_cache())]

    def _fetch(self, name: str, patterns: Sequence[str]) -> Path:
        if not self._weights.allows_download:
            raise self._no_such_model(name, "this server does not download")
        from huggingface_hub import snapshot_download

        try:
            check_hub()
            return Path(
                snapshot_download(name, cache_dir=self._cache, allow_patterns=list(patterns))
            )
        except (OSError, ValueError) as error:  # no such repository, no access to it, no network
            reason = str(error).partition("\n")[0]
            raise self._no_such_model(name, f"it could not be fetched ({reason})") from error

    def _no_such_model(self, name: str, why: str) -> UnknownModelError:
        known = self.names()
        hint = choices(name, known) if known else ""
        return UnknownModelError(
            f"transformers has no model {name!r} on this server, and {why}. Put the checkpoint's "
            f"files ({CONFIG}, {PROCESSORS[0]}, {HUB_FILES[0]}) into {self.home / name}, or its "
            f"repository, as huggingface_hub caches it, into {self._cache}. {hint}".strip(),
            field="model.name",
            subject=name,
        )


def _repository_folder(name: str) -> str:
    return "--".join(["models", *name.split("/")])


def _snapshot(repository: Path) -> Path | None:
    """Return the folder of a cached repository's main revision, if it has a config."""
    try:
        commit = (repository / "refs" / "main").read_text().strip()
    except OSError as error:
        raise_shortage(error)
        return None
    path = repository / "snapshots" / commit
    return path if (path / CONFIG).is_file() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise_shortage(error)
        return {}
    return content if isinstance(content, dict) else {}


def _shapes(path: Path, called: str) -> dict[str, tuple[int, ...]]:
    if path.suffix != ".safetensors":
        state = read_state_dict(path, called, mapped=True)
        return {name: tuple(tensor.shape) for name, tensor in state.items()}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        sentence = f"{called} is not a valid safetensors file: {error}"
        raise InvalidWeightsError(sentence, subject=called) from error


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and ".." not in name
