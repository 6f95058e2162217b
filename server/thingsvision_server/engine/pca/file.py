"""Reads and writes the file of a PCA: safetensors, with its description in the header.

Tensors are `{module}.mean` (float64) and `{module}.axes` (float32, a row per component), and
`images`, a line `SHA-256  name` for each image as UTF-8 bytes; older files have these lines
in the header. The same numbers and description give the same bytes, so the same SHA-256.
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
from ...rdm.computation import FLOAT64
from ..reduction import Projection, Reduction
from ..splits import SplitBatch
from .fitted import Axes, FeatureFacts, PCADescription, PCAModule

_KEY = "thingsvision_pca"

_IMAGES = "images"
"""Never the name of a module's tensor: these end in `.mean` and `.axes`."""


def write_pca(
    path: Path, description: PCADescription, images: str, modules: Mapping[str, Axes]
) -> None:
    """Write a PCA, and a line `SHA-256  name` for each of its images. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {f"{name}.mean": one.mean for name, one in modules.items()}
    tensors |= {f"{name}.axes": one.axes for name, one in modules.items()}
    # A header has at most 100 MB, which the lines of a million images reach.
    tensors[_IMAGES] = np.frombuffer(images.encode(), np.uint8)
    # One entry: safetensors writes several in any order, so the digest would vary.
    text = json.dumps(_to_json(description), ensure_ascii=False)
    try:
        save_file(tensors, path, metadata={_KEY: text})
    except SafetensorError as error:  # raised if the disk is full
        raise OSError(str(error)) from error


def read_description(path: Path) -> PCADescription:
    """Read the header of a file. Raises OSError, and ValueError if the file is not a PCA."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            written = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if written is None:
        raise ValueError("the header must have the description of a PCA")
    return _from_json(json.loads(written))


def parse_pca(content: bytes, description: PCADescription) -> dict[str, Axes]:
    """Return the axes in a file, by module."""
    from safetensors.numpy import load

    tensors = load(content)
    return {
        name: Axes(tensors[f"{name}.mean"], tensors[f"{name}.axes"]) for name in description.shapes
    }


def _to_json(description: PCADescription) -> dict[str, Any]:
    """Return a description as JSON has it, with the options among the facts."""
    written = asdict(description)
    options = description.facts.options.to_dict()
    facts = {name: value for name, value in written["facts"].items() if name != "options"}
    for module in written["modules"]:
        if module["arithmetic"] == FLOAT64:  # as in older files: the same numbers, the same digest
            del module["arithmetic"]
    return {**written, "facts": facts | options}


def _from_json(written: dict[str, Any]) -> PCADescription:
    written.pop(_IMAGES, None)  # in older files, for readers of the header
    facts = written.pop("facts")
    splits = tuple(SplitBatch(**one) for one in written.pop("split_batches", ()))
    # A file that is older than an option lacks it.
    options = {name: facts.pop(name) for name in vars(DEFAULT) if name in facts}
    reduction = facts.pop("reduction")
    projection = reduction.pop("projection")
    return PCADescription(
        **written | {"modules": tuple(PCAModule(**_tuples(one)) for one in written["modules"])},
        split_batches=splits,
        facts=FeatureFacts(
            **facts | {"preprocessing": Preprocessing.from_dict(facts["preprocessing"])},
            options=ComputeOptions.from_dict(options),
            reduction=Reduction(
                **_tuples(reduction),
                projection=None if projection is None else Projection(**projection),
            ),
        ),
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
