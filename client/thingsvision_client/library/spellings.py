"""Earlier spellings of models, sources and parameters, as the original library still takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calls.caller import warn_caller

PAPER_NAMES: Mapping[str, str] = {"clip-ViT": "clip/ViT-B-32", "clip-RN": "clip/RN50"}
"""The paper's names for models that have other names in their sources."""

_DEFAULT_VARIANTS: Mapping[str, str] = {
    "clip": "ViT-B/32",
    "OpenCLIP": "ViT-B-32-quickgelu",
    "DreamSim": "open_clip_vitb32",
    "Harmonization": "ViT_B16",
    "SegmentAnything": "vit_h",
}
"""The networks of the library's families that it takes without `variant`, by family."""

_DEFAULT_DATASETS: Mapping[str, str] = {"OpenCLIP": "laion400m_e32"}
"""The weights that it takes without `dataset`, whatever the variant."""

_SOURCES: Mapping[str, str] = {"vissl": "ssl"}


def current_source(source: str) -> str:
    """Return the present name of a source; warn for an earlier one."""
    if source not in _SOURCES:
        return source
    _warn(f"The source {source!r} is now called {_SOURCES[source]!r}.")
    return _SOURCES[source]


def current_name(model_name: str) -> str:
    """Return the present name of a model: `cornet-rt` for `cornet_rt`, for example."""
    if model_name.startswith("cornet_"):
        return model_name.replace("_", "-")
    return PAPER_NAMES.get(model_name, model_name)


def current_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `model_parameters` with `token_extraction` for `extract_cls_token`; warn of it."""
    found = dict(parameters)
    if "extract_cls_token" not in found:
        return found
    is_on = found.pop("extract_cls_token")
    _warn("`extract_cls_token` is now `token_extraction='cls_token'` of model_parameters.")
    tokens = {"token_extraction": "cls_token"} if is_on else {}
    return tokens | found


def complete_parameters(
    model_name: str, parameters: Mapping[str, Any], *, needs_weights: bool
) -> dict[str, Any]:
    """Return `model_parameters` with the variant, and the weights, that the library takes."""
    found = {key: value for key, value in parameters.items() if value is not None}
    if model_name in _DEFAULT_VARIANTS:
        found.setdefault("variant", _DEFAULT_VARIANTS[model_name])
    if needs_weights and model_name in _DEFAULT_DATASETS and "weights" not in found:
        found.setdefault("dataset", _DEFAULT_DATASETS[model_name])
    return found


def _warn(text: str) -> None:
    warn_caller(text, DeprecationWarning)
