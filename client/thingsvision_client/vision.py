"""The functions of THINGSvision's paper, with their names and parameters of that time.

They use today's library; forward passes run on the server.
"""

from __future__ import annotations

from .core.features import center_features, compress_features, normalize_features
from .core.rsa import correlate_rdms
from .core.similarities import (
    correlation_matrix,
    cosine_matrix,
    gaussian_kernel,
    squared_dists,
)
from .old_paths import old_names
from .paper.classes import get_class_probabilities, get_cls_mapping_imagenet
from .paper.comparison import compare_models
from .paper.early import extract_features, load_model, show_model
from .paper.image_sets import load_item_names
from .paper.loading import load_dl
from .paper.many_models import (
    extract_features_across_datasets_and_modules,
    extract_features_across_models_and_datasets,
    extract_features_across_models_datasets_and_modules,
    get_features,
    get_module_names,
)
from .paper.spellings import (
    compute_rdm,
    merge_features,
    plot_rdm,
    save_features,
    split_features,
    store_features,
)
from .utils.storing import save_targets, slices2tensor, tensor2slices

__all__ = [
    "center_features",
    "compare_models",
    "compress_features",
    "compute_rdm",
    "correlate_rdms",
    "correlation_matrix",
    "cosine_matrix",
    "extract_features",
    "extract_features_across_datasets_and_modules",
    "extract_features_across_models_and_datasets",
    "extract_features_across_models_datasets_and_modules",
    "gaussian_kernel",
    "get_class_probabilities",
    "get_cls_mapping_imagenet",
    "get_features",
    "get_module_names",
    "load_dl",
    "load_item_names",
    "load_model",
    "merge_features",
    "normalize_features",
    "plot_rdm",
    "save_features",
    "save_targets",
    "show_model",
    "slices2tensor",
    "split_features",
    "squared_dists",
    "store_features",
    "tensor2slices",
]

__getattr__ = old_names(__name__)
