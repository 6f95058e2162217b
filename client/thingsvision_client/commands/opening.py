"""Extractors and datasets from the options that commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..client import Client
from ..errors import InvalidRequestError


def open_extractor(client: Client, model_name: str, source: str, **options: Any) -> Any:
    """Return the extractor that a command's options name."""
    from ..library.extractor import get_extractor

    parameters = json_object("--model-parameters", options.pop("model_parameters") or "{}")
    if (tokens := options.pop("token_extraction", None)) is not None:
        parameters["token_extraction"] = tokens
    return get_extractor(
        model_name, source=source, model_parameters=parameters, server=client.server, **options
    )


def json_object(option: str, text: str) -> dict[str, Any]:
    """Return the value of an option. Raises InvalidRequestError if it is not a JSON object."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"{option} must be JSON, got {text}: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequestError(
            f"{option} must be a JSON object, '{{\"KEY\": VALUE}}', got {text}."
        )
    return found


def dataset_of(root: Path, out_path: Path, backend: str, changes: Any) -> Any:
    """Return the images of a folder, with changes of their preprocessing."""
    from ..utils.data import ImageDataset
    from ..utils.transforms import ServerTransforms

    return ImageDataset(root, out_path, backend, transforms=ServerTransforms(changes))


def read_lines(path: Path, what: str = "") -> list[str]:
    """Return the lines of a text file (UTF-8). Raises InvalidRequestError if it can't be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read {what}{path}: {error}") from error
