"""How alike models see the same images: their RDMs, correlated with each other (Figure 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.metrics import METRICS
from ..core.rsa import CORRELATIONS, compute_rdm, correlate_rdms
from ..errors import InvalidRequestError, MissingDependencyError
from ..files import file_stem
from ..images.folder import image_names
from ..utils import storing
from .many_models import Choice, Study, choices
from .model import checked_flattening

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..arrays import Float64Array


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
    """Return a square DataFrame: the correlations of the models' RDMs of the images below `root`.

    Module i is of model i; rows and columns are called as the models are (with the module, where
    a model comes several times). RDMs are of the flattened features, by the metric
    `dissimilarity`; `correlation` is of their upper triangles. `reference_rdms`, images x images by
    name, come after the models: with RDMs of behaviour and brain regions the table is that of the
    paper's Figure 2.

    `save_features` writes `{out_path}/{model}/{module}/features.npy`, flattened if
    `flatten_acts`. `file_names.txt` in `out_path` has a line per row of them. Raises
    InvalidRequestError and, without pandas, MissingDependencyError, before anything is sent.
    """
    pandas = _pandas()
    chosen = choices(model_names, module_names, clip)
    _check(dissimilarity, METRICS, "dissimilarity")
    _check(correlation, CORRELATIONS, "correlation")
    study = Study(pretrained, batch_size, backend, checked_flattening(flatten_acts))
    references = _references(reference_rdms or {}, len(image_names(Path(root))))
    labels = [*_labels(chosen), *references]
    if len(set(labels)) < len(labels):
        raise InvalidRequestError(f"Two rows would be called the same: {', '.join(labels)}.")
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


def _references(rdms: Mapping[str, npt.ArrayLike], count: int) -> dict[str, Float64Array]:
    arrays = {name: np.asarray(rdm, dtype=np.float64) for name, rdm in rdms.items()}
    if wrong := {name: one.shape for name, one in arrays.items() if one.shape != (count, count)}:
        raise InvalidRequestError(
            f"There are {count} images, but reference_rdms have the shapes {wrong}."
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


def _check(value: str, valid: Sequence[str] | Mapping[str, Any], called: str) -> None:
    if value not in valid:
        raise InvalidRequestError(f"{called} is one of {', '.join(valid)}, not {value!r}.")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError(
            "compare_models returns a DataFrame: pip install 'thingsvision-service[pandas]'."
        ) from error
    return pandas
