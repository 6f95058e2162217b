"""Similarity of models: their RDMs of the same images, correlated with each other (Figure 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.arguments import choose
from ..calls.signatures import check_arguments
from ..core.metrics import METRICS
from ..core.rsa import CORRELATIONS, compute_rdm, correlate_rdms
from ..display.cards import import_pandas
from ..errors import InvalidRequestError
from ..figures.panel_values import rdm_in_order
from ..files import file_stem
from ..images.folder import image_names
from ..utils import storing
from .model import require_flattening
from .study import Choice, Study, choices

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..arrays import Float64Array


@check_arguments
def compare_models(
    root: str | Path,
    out_path: str | Path,
    model_names: Sequence[str],
    module_names: Sequence[str],
    pretrained: bool,
    batch_size: int,
    backend: str = "pt",
    flatten_acts: bool | None = None,
    clip: bool | Sequence[bool] = False,
    save_features: bool = True,
    dissimilarity: str = "correlation",
    correlation: str = "pearson",
    *,
    reference_rdms: Mapping[str, npt.ArrayLike] | None = None,
) -> Any:
    """Return the correlations of models' RDMs of the same images, as a square DataFrame (Figure 2).

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt` and the features.
        model_names: Models, as in `Model`.
        module_names: A module per model.
        pretrained: Pretrained weights; False gives random ones, always the same.
        batch_size: Images in a forward pass.
        backend: `pt` or `tf`.
        flatten_acts: Whether saved features are images x units; there is no default.
        clip: Has no effect, but there is one per model if it is a list.
        save_features: Write `{out_path}/{model}/{module}/features.npy`.
        dissimilarity: Metric of the RDMs, which are of flattened features: `correlation`, `cosine`,
            `euclidean` or `gaussian`.
        correlation: Of the RDMs' upper triangles: `pearson` or `spearman`.
        reference_rdms: RDMs (images x images) by name, such as those of behaviour or brain regions,
            added after the models.

    Returns:
        Rows and columns named after the models, with the module if a model is there several times.

    Raises:
        InvalidRequestError: Arguments that don't fit each other; nothing is sent then.
        MissingDependencyError: pandas is not installed.

    Example:
        ```python
        from thingsvision_client import vision

        table = vision.compare_models(
            "images", "results", ["alexnet", "squeezenet1_0"], ["features.10", "features.12"],
            pretrained=True, batch_size=64, flatten_acts=True,
        )
        print(table)
        ```

    """
    pandas = import_pandas("compare_models")
    chosen = choices(model_names, module_names, clip)
    choose("dissimilarity", dissimilarity, METRICS)
    choose("correlation", correlation, CORRELATIONS)
    study = Study(pretrained, batch_size, backend, require_flattening(flatten_acts))
    references = _references(reference_rdms or {}, image_names(Path(root)))
    labels = [*_labels(chosen), *references]
    if len(set(labels)) < len(labels):
        raise InvalidRequestError(f"Names of rows must be unique, got {', '.join(labels)}.")
    rdms: dict[Choice, Float64Array] = {}
    for name, by_module in study.by_model(chosen, Path(root), Path(out_path)):
        for module, features in by_module.items():
            if save_features:
                storing.save_features(features, _folder(Path(out_path), name, module), "npy")
            rdm = compute_rdm(features.reshape(len(features), -1), dissimilarity)
            rdms[Choice(name, module)] = rdm
    table = _correlations([*map(rdms.__getitem__, chosen), *references.values()], correlation)
    index = pandas.Index(labels, name="model_names")
    return pandas.DataFrame(table, index=index, columns=labels)


def _correlations(rdms: Sequence[Float64Array], correlation: str) -> Float64Array:
    table = np.eye(len(rdms))
    for row, column in combinations(range(len(rdms)), 2):
        value = correlate_rdms(rdms[row], rdms[column], correlation)
        table[row, column] = table[column, row] = value
    return table


def _references(rdms: Mapping[str, Any], images: Sequence[str]) -> dict[str, Float64Array]:
    """Return RDMs in the order of the images, by name if they carry names."""
    count = len(images)
    arrays = {name: rdm_in_order(name, rdm, images) for name, rdm in rdms.items()}
    if wrong := {name: one.shape for name, one in arrays.items() if one.shape != (count, count)}:
        raise InvalidRequestError(
            f"`reference_rdms` must be {count} x {count}, got shapes {wrong}."
        )
    return arrays


def _labels(chosen: Sequence[Choice]) -> list[str]:
    counts = Counter(choice.model_name for choice in chosen)
    return [
        f"{one.model_name} ({one.module_name})" if counts[one.model_name] > 1 else one.model_name
        for one in chosen
    ]


def _folder(out_path: Path, model_name: str, module: str) -> Path:
    return out_path / file_stem(model_name) / file_stem(module)
