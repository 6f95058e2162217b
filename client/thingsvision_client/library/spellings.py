"""Earlier spellings of models, sources and parameters, as the original library still takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..caller import warn_caller

PAPER_NAMES: Mapping[str, str] = {"clip-ViT": "clip/ViT-B-32", "clip-RN": "clip/RN50"}
"""The paper's names for models that have other names in their sources."""

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


def _warn(text: str) -> None:
    warn_caller(text, DeprecationWarning)
