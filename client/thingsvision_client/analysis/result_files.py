"""The files of an RSA in a folder: `rsa.csv`, `rsa.json` with what they depend on, and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..files import atomic_file
from ..origins.replacing import FIGURE_ENDINGS, is_same

if TYPE_CHECKING:
    from ..values.model import Model
    from .result import RSAResult

_NAMES = ("rsa.json", "rsa.csv", *(f"rsa{ending}" for ending in FIGURE_ENDINGS))


def check_before(folder: Path, model: Model, metric: str, *, overwrite: bool) -> None:
    """Raise InvalidRequestError, before anything is computed, if the folder has another RSA."""
    known = _read(folder)
    if known is None or overwrite:
        return
    whole = f"{model.source}/{model.name}@{model.weights or ''}"
    if not str(known.get("model", "")).startswith(whole) or known.get("metric") != metric:
        raise _folder_error(folder, known)


def write_result(result: RSAResult, folder: Path, figure: str, *, overwrite: bool) -> None:
    """Write all files. Raises InvalidRequestError if those of another RSA would be replaced."""
    from .bars import draw_scores

    known, planned = _read(folder), json.loads(result.to_json())
    is_stale = known is not None and not is_same(known, planned)
    if known is not None and is_stale and not overwrite:
        raise _folder_error(folder, known)
    for name, text in (("rsa.csv", result.to_csv()), ("rsa.json", result.to_json())):
        with atomic_file(folder / name) as file:
            file.write(text.encode())
    for ending in FIGURE_ENDINGS if is_stale else ():
        (folder / f"rsa{ending}").unlink(missing_ok=True)
    draw_scores(folder / f"rsa.{figure}", result.scores, result.correlation)


def _read(folder: Path) -> Mapping[str, Any] | None:
    """Return what is known of the RSA in a folder; empty if nothing is, None without files."""
    if not any((folder / name).is_file() for name in _NAMES):
        return None
    try:
        found = json.loads((folder / _NAMES[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folder_error(folder: Path, known: Mapping[str, Any]) -> InvalidRequestError:
    of_model = f" of {known['model']}" if "model" in known else ""
    return InvalidRequestError(
        f"{folder} has the files of another RSA{of_model} (rsa.json): choose another folder, or "
        "replace them with overwrite=True (in a shell --overwrite)."
    )
