"""The file of a PCA: safetensors, with its description in the header; knows no folder.

Tensors are `{module}.mean` (float64) and `{module}.axes` (float32, a row per component), and
`images`, a line `SHA-256  name` for each image as the bytes of UTF-8; in older files the header has
these lines. The same numbers and description give the same bytes, so the same SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...backends.compute_options import DEFAULT, ComputeOptions
from ...inputs import Preprocessing
from ..reduction import Projection, Reduction
from .fitted import Axes, FeatureFacts, PCADescription, PCAModule

_KEY = "thingsvision_pca"

_IMAGES = "images"
"""No tensor of a module is called so: those end in `.mean` and `.axes`."""


def write_pca(
    path: Path, description: PCADescription, images: str, modules: Mapping[str, Axes]
) -> None:
    """Write a PCA, and a line `SHA-256  name` for each of its images. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {f"{name}.mean": one.mean for name, one in modules.items()}
    tensors |= {f"{name}.axes": one.axes for name, one in modules.items()}
    # A header has at most 100 MB, which the lines of a million images are.
    tensors[_IMAGES] = np.frombuffer(images.encode(), np.uint8)
    # In one text: safetensors writes several in any order, and the digest would be another.
    told = json.dumps(_written(description), ensure_ascii=False)
    try:
        save_file(tensors, path, metadata={_KEY: told})
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(str(error)) from error


def read_description(path: Path) -> PCADescription:
    """Read the header of a file. Raises OSError, and ValueError where it is of no PCA."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            written = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if written is None:
        raise ValueError("it has no description of a PCA")
    return _description(json.loads(written))


def parse_pca(content: bytes, description: PCADescription) -> dict[str, Axes]:
    """Return the numbers of a file, by module."""
    from safetensors.numpy import load

    tensors = load(content)
    return {
        name: Axes(tensors[f"{name}.mean"], tensors[f"{name}.axes"]) for name in description.shapes
    }


def _written(description: PCADescription) -> dict[str, Any]:
    """Return a description as JSON knows it; the options lie among the facts."""
    written = asdict(description)
    options = description.facts.options.to_dict()
    facts = {name: value for name, value in written["facts"].items() if name != "options"}
    return {**written, "facts": facts | options}


def _description(written: dict[str, Any]) -> PCADescription:
    written.pop(_IMAGES, None)  # of an older file, for whoever opens it
    facts = written.pop("facts")
    # A file that was written before there was an option lacks it.
    options = {name: facts.pop(name) for name in vars(DEFAULT) if name in facts}
    reduction = facts.pop("reduction")
    projection = reduction.pop("projection")
    return PCADescription(
        **written | {"modules": tuple(PCAModule(**_tuples(one)) for one in written["modules"])},
        facts=FeatureFacts(
            **facts | {"preprocessing": Preprocessing(**_tuples(facts["preprocessing"]))},
            options=ComputeOptions.from_dict(options),
            reduction=Reduction(
                **_tuples(reduction),
                projection=None if projection is None else Projection(**projection),
            ),
        ),
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
