"""Finds the files of weights, or downloads them.

The folder is laid out like the libraries' own caches, so that those can be mounted:

    {source}/{name}.{tag}.{safetensors,pth,pt,bin}     put there by hand
    keras/{name}.{tag}.{weights.h5,h5,keras}           put there by hand
    keras/models/{file}                                like ~/.keras/models
    torch/hub/checkpoints/{file}                       like ~/.cache/torch
    huggingface/hub/models--{owner}--{name}/...        like ~/.cache/huggingface
    transformers/{name}/                               checkpoints of `transformers`, as folders
    uploads/{sha256}, uploads/{sha256}.json            files from clients, and their records
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ...access.owners import Owners
from ...access.person import viewer
from ...backends.children.guests import GuestRuntime
from ...errors import UnknownWeightsError, WeightsMissingError
from ...shared_folder.claims import is_there
from ...shared_folder.unfinished import remove_unfinished
from ..base import ModelKey, Pretrained, WeightsState
from .downloads import DownloadError, download_file, download_from_hub
from .snapshot import DirectorySnapshot

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "torch": ("safetensors", "pth", "pt", "bin"),
    "keras": ("weights.h5", "h5", "keras"),
}
"""Suffixes of the files that each library reads."""

_CACHES: Mapping[str, str] = {"torch": "torch/hub/checkpoints", "keras": "keras/models"}
"""Folders below the root for the files that each library downloads from a URL."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""The usual weight files of a Hugging Face repository, the preferred first."""

_HUB_CACHE = Path("huggingface", "hub")
"""The cache of Hugging Face repositories, below the root."""

_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
"""Shorter matches are part of a name, such as the `600e` of I-JEPA's epochs."""


@dataclass(frozen=True)
class PublishedWeights:
    """Where weights are published: at a URL that a library caches, or in a repository of the hub.

    `cached_as` names the cached file if that is not the last part of the URL; `library`, `torch`
    or `keras`, is the owner of the cache; `digest` is the file's MD5 or SHA-256, if published.
    """

    url: str = ""
    hub_repository: str = ""
    hub_files: tuple[str, ...] = ()
    cached_as: str = ""
    library: str = "torch"
    digest: str = ""

    @property
    def file_name(self) -> str:
        """Return the name under which the library caches the file."""
        return self.cached_as or self.url.rpartition("/")[2]

    @property
    def origin(self) -> str:
        """Return the URL of the file, or of its repository."""
        return f"https://huggingface.co/{self.hub_repository}" if self.hub_repository else self.url

    @property
    def digest_in_name(self) -> str | None:
        """Return the first digits of the file's SHA-256 if its name has them, as PyTorch's do."""
        found = _DIGEST_IN_NAME.search(self.file_name) if self.library == "torch" else None
        return found[1] if found else None

    def __bool__(self) -> bool:
        return bool(self.url or self.hub_repository)


@runtime_checkable
class PublishingSource(Protocol):
    """A source of models that says where their weights are published."""

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""


class WeightsFolder:
    """The server's weights: found in its folder, then in the user's caches, or downloaded."""

    def __init__(
        self,
        root: Path,
        *,
        allow_download: bool,
        snapshot: DirectorySnapshot | None = None,
        guests: GuestRuntime | None = None,
    ) -> None:
        self.root = root
        self.guests = guests or GuestRuntime()
        """The processes that read what users uploaded."""
        self.uploads = root / "uploads"
        self.allows_download = allow_download
        """Whether missing weights may be downloaded."""
        self._snapshot = snapshot

    @property
    def hub_cache(self) -> Path:
        """The cache of Hugging Face repositories in this folder."""
        return self.root / _HUB_CACHE

    def remove_unfinished(self) -> None:
        """Delete what downloads left that were killed."""
        for folder in _CACHES.values():
            remove_unfinished(self.root / folder)

    def snapshot(self) -> WeightsFolder:
        """Return this folder as it is now, which answers many questions cheaply."""
        return WeightsFolder(
            self.root,
            allow_download=self.allows_download,
            snapshot=DirectorySnapshot(),
            guests=self.guests,
        )

    def state(self, key: ModelKey, published: PublishedWeights) -> WeightsState:
        """Return whether the weights are here, can be downloaded, or neither."""
        if self._find(key, published):
            return WeightsState.PRESENT
        can_fetch = self.allows_download and bool(published)
        return WeightsState.DOWNLOADABLE if can_fetch else WeightsState.MISSING

    def locate(self, key: ModelKey, published: PublishedWeights) -> Path:
        """Return the file of some weights, downloaded if needed; raise WeightsMissingError."""
        found = self._find(key, published)
        if found:
            return found
        if not published:
            raise self._missing_error(key, published, "they are not published")
        if not self.allows_download:
            remedy = "start the server with --allow-download, "
            raise self._missing_error(key, published, "it does not download", remedy)
        try:
            return _download(published, self.root)
        except DownloadError as error:
            why = f"{published.origin} could not be downloaded: {error}"
            raise self._missing_error(key, published, why, _remedy(error)) from error

    def _missing_error(
        self, key: ModelKey, published: PublishedWeights, why: str, remedy: str = ""
    ) -> WeightsMissingError:
        """Return the error that says where weights were looked for, and what to do."""
        first, *others = _SUFFIXES[published.library]
        own = f"{self._own_path(key, first)} (or .{', .'.join(others)})"
        places = " and ".join([own, *self._cached_places(published)])
        is_known = not published or published.origin in why
        origin = "" if is_known else f" ({published.origin})"
        return WeightsMissingError(
            f"the weights of {key} are not on this server, and {why}. Looked for {places}. Put the "
            f"file{origin} there, {remedy}or upload your copy of it (model_path)",
            field="model.weights",
            subject=str(key),
        )

    def _cached_places(self, published: PublishedWeights) -> Iterator[str]:
        """Yield where this folder would have what a library caches."""
        if published.url:
            yield str(self.root / _CACHES[published.library] / published.file_name)
        if published.hub_repository:
            files = [f"{published.hub_repository}/{file}" for file in published.hub_files]
            yield f"{' or '.join(files)} in {self.hub_cache}"

    def find_upload(self, sha256: str) -> Path:
        """Return the path of an uploaded file; raise UnknownWeightsError.

        So it does for a file that whoever makes the call does not own, and that is not shared.
        """
        path, owners = self.uploads / sha256, Owners(self.uploads / "owners")
        if not (
            re.fullmatch("[0-9a-f]{64}", sha256)
            and owners.may_see(sha256, viewer())
            and is_there(path)
            and owners.may_see(sha256, viewer())  # it may have been deleted and stored anew
        ):
            sentence = f"no uploaded weights have the SHA-256 {sha256!r}; upload them first"
            raise UnknownWeightsError(sentence, field="model.weights_sha256", subject=sha256)
        return path

    def _own_path(self, key: ModelKey, suffix: str) -> Path:
        stem = f"{key.name}.{key.weights.tag}" if isinstance(key.weights, Pretrained) else key.name
        return self.root / key.source / f"{stem}.{suffix}"

    def _find(self, key: ModelKey, published: PublishedWeights) -> Path | None:
        candidates = self._candidates(key, published)
        is_file = self._snapshot.is_file if self._snapshot else os.path.isfile
        found = next((path for path in candidates if path and is_file(path)), None)
        return Path(found) if found else None

    def _candidates(self, key: ModelKey, published: PublishedWeights) -> Iterator[str | None]:
        """Yield the paths to try, as strings because lists ask for tens of thousands of them."""
        own = str(self._own_path(key, ""))
        yield from (f"{own}{suffix}" for suffix in _SUFFIXES[published.library])
        if published.url:
            folders = [self.root / _CACHES[published.library], _OWN_CACHES[published.library]()]
            yield from (f"{folder}{os.sep}{published.file_name}" for folder in folders)
        if published.hub_repository:
            for cache in (str(self.hub_cache), user_hub_cache()):
                yield from self._in_hub_cache(published, cache)

    def _in_hub_cache(self, published: PublishedWeights, cache: str) -> Iterator[str | None]:
        folder = "--".join(["models", *published.hub_repository.split("/")])
        if self._snapshot and not self._snapshot.is_dir(f"{cache}{os.sep}{folder}"):
            return
        from huggingface_hub import try_to_load_from_cache

        for file in published.hub_files:
            found = try_to_load_from_cache(published.hub_repository, file, cache_dir=cache)
            yield found if isinstance(found, str) else None


def user_hub_cache() -> str:
    """Return the cache of Hugging Face repositories of the user who runs the server."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _torch_hub_cache() -> Path:
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints"


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


_OWN_CACHES: Mapping[str, Callable[[], Path]] = {"torch": _torch_hub_cache, "keras": _keras_cache}
"""The cache folder that each library uses for the user who runs the server."""


def _download(published: PublishedWeights, root: Path) -> Path:
    """Return the file of published weights, downloaded. Raises DownloadError."""
    if published.hub_repository:
        cache = root / _HUB_CACHE
        return download_from_hub(published.hub_repository, published.hub_files, cache)
    target = root / _CACHES[published.library] / published.file_name
    download_file(published.url, target, published.digest or published.digest_in_name or "")
    return target


def _remedy(error: DownloadError) -> str:
    if not error.host:
        return ""
    return (
        f"let the server reach {error.host} (its environment variable https_proxy names a proxy) "
        "and ask again, "
    )
