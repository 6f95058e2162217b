"""Reads the published archives of DreamSim.

An archive contains the weights of the backbones before fine-tuning and a LoRA adapter, which is
merged into them once, here. DINO's weights come from its authors, in a file of their own.
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
from ...catalogues.checkpoints import drop_keys
from ...weights.folder import PublishedWeights, WeightsFolder
from ...weights.state_dicts import StateDict, read_state_dict
from .networks import BACKBONES, VARIANTS

_DINO = PublishedWeights(
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
)
_DINO_KEY = ModelKey("custom", "DreamSim/dino_vitb16", Pretrained("backbone"))

_ADAPTER = "adapter_config.json"
_ADAPTER_KEY = re.compile(
    r"base_model\.model\.(?P<module>extractor_list\.\d+\.model\..+)\.lora_(?P<part>[AB])\.weight"
)
_UNSUPPORTED = ("alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "fan_in_fan_out")
"""Settings that change how an adapter is merged; the published adapters don't set them."""


class DreamSimFiles:
    """Reads the published archives, and state dicts of the networks themselves."""

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights

    def read(self, path: Path, *, mapped: bool = False) -> StateDict:
        """Return a file's tensors under the network's names, with any adapter merged."""
        if not is_zipfile(path):
            return read_state_dict(path, mapped=mapped)
        with ZipFile(path) as archive, TemporaryDirectory() as folder:
            adapters = [name for name in archive.namelist() if Path(name).name == _ADAPTER]
            if not adapters:  # PyTorch's files are zip archives, too
                return read_state_dict(path, mapped=mapped)
            archive.extractall(folder)
            return self._read_archive(Path(folder) / adapters[0])

    def _read_archive(self, config_path: Path) -> StateDict:
        config = json.loads(config_path.read_text("utf-8"))
        adapter = read_state_dict(_adapter_file(config_path.parent))
        state: StateDict = {}
        for index, backbone in enumerate(_backbones(config_path)):
            base = self._base(config_path.parent.parent, backbone)
            state |= {f"extractor_list.{index}.{key}": tensor for key, tensor in base.items()}
        return merge_adapter(state, adapter, config)

    def _base(self, folder: Path, backbone: str) -> StateDict:
        """Return a backbone's tensors before fine-tuning, under our names."""
        if BACKBONES[backbone].is_clip:
            state = read_state_dict(folder / f"{backbone}_pretrain.pth.tar")
            projection = {"proj": state.pop("proj")}
        else:
            state, projection = read_state_dict(self._weights.locate(_DINO_KEY, _DINO)), {}
            # The features are taken before the last normalisation.
            state = drop_keys(state, "norm.")
        # What these files call pos_drop is CLIP's normalisation of the tokens.
        model = {f"model.{k.replace('pos_drop', 'norm_pre')}": t for k, t in state.items()}
        return {key: tensor.float() for key, tensor in (model | projection).items()}


def _backbones(config_path: Path) -> Sequence[str]:
    """Return the backbones of an adapter, by the name of its folder."""
    variant = config_path.parent.name.removesuffix("_lora").removesuffix("_single")
    if variant not in VARIANTS:
        names = ", ".join(VARIANTS)
        raise InvalidWeightsError(f"the archive's adapter must be for {names}, got {variant!r}")
    return VARIANTS[variant]


def _adapter_file(folder: Path) -> Path:
    names = ("adapter_model.safetensors", "adapter_model.bin")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InvalidWeightsError(
            f"the archive's {folder.name} contains none of {', '.join(names)}"
        )
    return found[0]


def merge_adapter(state: StateDict, adapter: StateDict, config: Mapping[str, Any]) -> StateDict:
    """Merge a LoRA adapter into weights: W + alpha / r * B A (Hu et al. 2021, section 4.1).

    Raises InvalidWeightsError if a part of the adapter can't be merged.
    """
    unsupported = [name for name in _UNSUPPORTED if config.get(name)]
    parts = {key: _ADAPTER_KEY.fullmatch(key) for key in adapter}
    unknown = [*unsupported, *(key for key, match in parts.items() if match is None)]
    found = {(m["module"], m["part"]): adapter[key].float() for key, m in parts.items() if m}
    modules = sorted({module for module, _ in found})
    unknown += [name for name in modules if f"{name}.weight" not in state]
    if unknown or not modules or len(found) != 2 * len(modules):
        listed = ", ".join(unknown[:5]) or "it has no pairs of lora_A and lora_B"
        raise InvalidWeightsError(f"the adapter can't be merged into these backbones: {listed}")
    scale = config["lora_alpha"] / config["r"]
    merged = {
        f"{name}.weight": torch.add(
            state[f"{name}.weight"], found[name, "B"] @ found[name, "A"], alpha=scale
        )
        for name in modules
    }
    return state | merged
