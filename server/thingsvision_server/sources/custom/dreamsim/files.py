"""Reads the published archives of DreamSim; knows no server and no catalogue.

An archive holds the weights of backbones before they were tuned and a LoRA adapter, which is
added to them here once; those of DINO are published by its authors, in a file of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch

from ....errors import InvalidWeightsError
from ...base import ModelKey, Pretrained
from ...weights.folder import PublishedWeights, WeightsFolder
from ...weights.state_dicts import StateDict, read_state_dict
from .networks import BACKBONES, VARIANTS

_DINO = PublishedWeights(
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
)
_DINO_KEY = ModelKey("custom", "DreamSim/dino_vitb16", Pretrained("backbone"))

_ADAPTER = "adapter_config.json"
_ADAPTED = re.compile(
    r"base_model\.model\.(?P<module>extractor_list\.\d+\.model\..+)\.lora_(?P<part>[AB])\.weight"
)
_ALTERED = ("alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "fan_in_fan_out")
"""Settings of an adapter that change how it is added; those published leave them out."""


class DreamSimFiles:
    """Reads what is published, and state dicts of the networks themselves."""

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights

    def read(self, path: Path, *, mapped: bool = False) -> StateDict:
        """Return the tensors of a file by the network's names, an adapter added to its weights."""
        if not is_zipfile(path):
            return read_state_dict(path, mapped=mapped)
        with ZipFile(path) as archive, TemporaryDirectory() as folder:
            adapters = [name for name in archive.namelist() if Path(name).name == _ADAPTER]
            if not adapters:  # files of PyTorch are zip archives, too
                return read_state_dict(path, mapped=mapped)
            archive.extractall(folder)
            return self._adapted(Path(folder) / adapters[0])

    def _adapted(self, config_path: Path) -> StateDict:
        config = json.loads(config_path.read_text("utf-8"))
        adapter = read_state_dict(_adapter_file(config_path.parent))
        state: StateDict = {}
        for index, backbone in enumerate(_backbones(config_path)):
            base = self._base(config_path.parent.parent, backbone)
            state |= {f"extractor_list.{index}.{key}": tensor for key, tensor in base.items()}
        return with_adapter(state, adapter, config)

    def _base(self, folder: Path, backbone: str) -> StateDict:
        """Return a backbone's tensors before it was tuned, by our names."""
        if BACKBONES[backbone].is_clip:
            state = read_state_dict(folder / f"{backbone}_pretrain.pth.tar")
            projection = {"proj": state.pop("proj")}
        else:
            state, projection = read_state_dict(self._weights.locate(_DINO_KEY, _DINO)), {}
            # The features are those before the last normalisation.
            state = {key: tensor for key, tensor in state.items() if not key.startswith("norm.")}
        # Where these files keep a dropout, CLIP normalises its tokens.
        model = {f"model.{k.replace('pos_drop', 'norm_pre')}": t for k, t in state.items()}
        return {key: tensor.float() for key, tensor in (model | projection).items()}


def _backbones(config_path: Path) -> Sequence[str]:
    """Return the backbones that an adapter's folder is for: its name tells."""
    adapted = config_path.parent.name.removesuffix("_lora").removesuffix("_single")
    if adapted not in VARIANTS:
        raise InvalidWeightsError(f"the archive has the adapter {adapted!r}, of no known variant")
    return VARIANTS[adapted]


def _adapter_file(folder: Path) -> Path:
    names = ("adapter_model.safetensors", "adapter_model.bin")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InvalidWeightsError(f"the archive's {folder.name} has none of {', '.join(names)}")
    return found[0]


def with_adapter(state: StateDict, adapter: StateDict, config: Mapping[str, Any]) -> StateDict:
    """Add a LoRA adapter to weights: W + alpha / r * B A (Hu et al. 2021, section 4.1).

    Raises InvalidWeightsError where a part of the adapter can't be added so.
    """
    altered = [name for name in _ALTERED if config.get(name)]
    parts = {key: _ADAPTED.fullmatch(key) for key in adapter}
    unknown = [*altered, *(key for key, match in parts.items() if match is None)]
    found = {(m["module"], m["part"]): adapter[key].float() for key, m in parts.items() if m}
    modules = sorted({module for module, _ in found})
    unknown += [name for name in modules if f"{name}.weight" not in state]
    if unknown or not modules or len(found) != 2 * len(modules):
        listed = ", ".join(unknown[:5]) or "it has no pairs of lora_A and lora_B"
        raise InvalidWeightsError(f"the adapter can't be added to these backbones: {listed}")
    scale = config["lora_alpha"] / config["r"]
    added = {
        f"{name}.weight": torch.add(
            state[f"{name}.weight"], found[name, "B"] @ found[name, "A"], alpha=scale
        )
        for name in modules
    }
    return state | added
