"""The outcome of a user's script for the test that runs it in a child: texts and arrays."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thingsvision_client import DataLoader, ImageDataset, connect

SERVER, FOLDER, *PHOTOS = sys.argv[1:]
SAID: dict[str, Any] = {}
ARRAYS: dict[str, np.ndarray] = {}


def refusal(call: Callable[[], Any]) -> str:
    """Return the exception that is raised, as text."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def images(transforms: Any, backend: str = "pt") -> DataLoader:
    """Return the photographs, two by two."""
    photos = [Path(photo) for photo in PHOTOS]
    names = [photo.name for photo in photos]
    dataset = ImageDataset(
        photos[0].parent, FOLDER, backend, file_names=names, transforms=transforms
    )
    return DataLoader(dataset, 2, backend)


def opened() -> list[Image.Image]:
    """Return the photographs."""
    return [Image.open(photo).convert("RGB") for photo in PHOTOS]


def run(*scenarios: Callable[[], None]) -> None:
    """Run scenarios on the server, and write what they said and their arrays into the folder."""
    connect(SERVER)
    for scenario in scenarios:
        scenario()
    Path(FOLDER, "said.json").write_text(json.dumps(SAID))
    np.savez(Path(FOLDER, "arrays.npz"), **ARRAYS)
