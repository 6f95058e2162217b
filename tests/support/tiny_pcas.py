"""PCAs of thirty small photographs, and their features."""

from __future__ import annotations

from typing import Any

from thingsvision_client import (
    Client,
    PreprocessingOverrides,
)
from thingsvision_client.values.pca import PCA

MODEL = "torchvision/squeezenet1_0@random:0"
MODULES = ("features.3", "features.5")
MODULE = MODULES[0]
SMALL = PreprocessingOverrides(resize=64, crop=64)
COUNT = 30
NAME = "tiny-30"


def extract(client: Client, images: Any, modules: Any = MODULES, **options: Any) -> Any:
    chosen = {"batch_size": 8, "preprocessing": SMALL} | options
    return client.extract(MODEL, images, modules, **chosen)


def fit(client: Client, images: Any, modules: Any = MODULES, **options: Any) -> PCA:
    chosen = {"batch_size": 8, "preprocessing": SMALL, "components": 5, "name": NAME} | options
    return client.fit_pca(MODEL, images, modules, **chosen)
