"""Reads open_clip's networks and weights from its files, without importing it.

The import takes many seconds, and listing models must not wait for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ....inputs import Preprocessing
from ...weights.folder import PublishedWeights

_OPENAI = "openai"
_QUICK_GELU = "-quickgelu"
_REQUIRED = ("embed_dim", "vision_cfg", "text_cfg")
"""The keys of a JSON file that configures a network with two towers."""

_Size = tuple[int, int]

_RESIZE_MODES: Mapping[str, Callable[[_Size], dict[str, Any]]] = {
    "shortest": lambda size: {"resize_pixels": size[:1], "crop_pixels": size},
    "squash": lambda size: {"resize_pixels": size},
}


@dataclass(frozen=True)
class Variant:
    """One network: its name and configuration in open_clip, and its pretrained tags."""

    architecture: str
    config: Mapping[str, Any]
    pretrained: Mapping[str, Mapping[str, Any]]
    hub_files: tuple[str, ...]
    """Weight files to look for in a repository if the tag names no file, the preferred first."""

    def configuration(self) -> dict[str, Any]:
        """Return a copy of the configuration that the caller may change."""
        return deepcopy(dict(self.config))

    @property
    def text(self) -> Mapping[str, Any]:
        """Return the configuration of the text tower."""
        text: Mapping[str, Any] = self.config["text_cfg"]
        return text

    @property
    def context_length(self) -> int:
        """Return the number of token ids of every text."""
        return int(self.text.get("context_length", 77))

    @property
    def image_size(self) -> _Size:
        """Return height and width of an input image, in pixels."""
        size = self.config["vision_cfg"].get("image_size", 224)
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def has_quick_gelu(self, tag: str = "") -> bool:
        """Tell whether the configuration or the tag says that the network uses QuickGELU.

        open_clip itself only reads the configuration, and warns if a tag's weights were trained
        with QuickGELU but the network has another activation.
        """
        of_tag = self.pretrained.get(tag, {}).get("quick_gelu", False)
        return bool(self.config.get("quick_gelu", False) or of_tag)

    def preprocessing(self, tag: str = "") -> Preprocessing:
        """Return the preprocessing of images for a tag, or else for the first tag."""
        settings = self.pretrained.get(tag) or next(iter(self.pretrained.values()), _DEFAULTS)
        return Preprocessing(
            interpolation=settings["interpolation"],
            antialias=True,  # Pillow always low-pass filters when it shrinks
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            **_RESIZE_MODES[settings["resize_mode"]](self.image_size),
        )

    def find_published(self, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published: open_clip prefers a hub's repository."""
        settings = self.pretrained[tag]
        owner, name, file = (*settings["hf_hub"].split("/"), "", "", "")[:3]
        if not owner:
            return PublishedWeights(url=settings["url"])
        # A safetensors file is preferred to a pickle of the same name.
        files = (f"{Path(file).stem}.safetensors", file) if file else self.hub_files
        return PublishedWeights(hub_repository=f"{owner}/{name}", hub_files=files)


_DEFAULTS: Mapping[str, Any] = {
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
"""open_clip's preprocessing for a network without a tag: OpenAI's."""


def open_clip_variants() -> dict[str, Variant]:
    """Return all networks by name: `clip/...` with OpenAI's weights, `OpenCLIP/...` with any."""
    folder = _package_folder()
    table = _import_tag_table(folder)
    hub_files = (table.HF_SAFE_WEIGHTS_NAME, table.HF_WEIGHTS_NAME)
    found: dict[str, Variant] = {}
    for path in (folder / "model_configs").glob("*.json"):
        config = json.loads(path.read_text("utf-8"))
        if any(key not in config for key in _REQUIRED):
            continue
        tags = table.list_pretrained_tags_by_model(path.stem)
        pretrained = {tag: table.get_pretrained_cfg(path.stem, tag) for tag in tags}
        found[f"OpenCLIP/{path.stem}"] = Variant(path.stem, config, pretrained, hub_files)
        if path.stem.endswith(_QUICK_GELU) and _OPENAI in pretrained:
            of_openai = {_OPENAI: pretrained[_OPENAI]}
            name = f"clip/{path.stem.removesuffix(_QUICK_GELU)}"
            found[name] = Variant(path.stem, config, of_openai, hub_files)
    return dict(sorted(found.items()))


def _package_folder() -> Path:
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package open_clip_torch is not installed")
    return Path(spec.submodule_search_locations[0])


def _import_tag_table(folder: Path) -> Any:
    """Import only the module with the tags, through a stand-in package without an `__init__`."""
    package = ModuleType(f"{__package__}.open_clip_files")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return import_module(f"{package.__name__}.pretrained")
