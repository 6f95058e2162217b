"""Saves features by the library's façade, as a user with `model_parameters` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.serving import TestServer
from thingsvision_client import DataLoader, ImageDataset, get_extractor, save_features


def save_squeezenet(
    server: TestServer,
    photos: Sequence[Path],
    folder: Path,
    *,
    module: str,
    parameters: Mapping[str, Any],
) -> Path:
    """Extract in batches of two, and return the file of features, with a JSON file beside it."""
    root, names = photos[0].parent, [photo.name for photo in photos]
    extractor = get_extractor(
        "squeezenet1_0", False, "cpu", "torchvision",
        model_parameters=dict(parameters), server=server.address,
    )  # fmt: skip
    batches = DataLoader(ImageDataset(root, folder, "pt", file_names=names), 2, "pt")
    save_features(extractor.extract_features(batches, module), folder, "npy")
    return folder / "features.npy"
