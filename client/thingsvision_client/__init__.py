"""THINGSvision without torch: features and RDMs of vision models from a server, as numpy arrays.

Names load when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .old_paths import add_old_paths

if TYPE_CHECKING:
    from . import errors
    from .analysis.comparison import compare_rdms, rsa
    from .analysis.objects import to_dataset, to_rdms, to_xarray
    from .analysis.result import RSAResult
    from .client import Client, connect
    from .core.cka import get_cka
    from .core.features import center_features, compress_features, normalize_features
    from .core.rsa import compute_rdm, correlate_rdms, plot_rdm
    from .figures.rdm_grid import plot_rdms
    from .library.extractor import Extractor, get_extractor
    from .library.own_network import get_extractor_from_model
    from .library.server_process import local_server
    from .origins import origin_of, read_origin
    from .rpc.extraction import Extraction
    from .rpc.feature_stream import FeatureStream
    from .rpc.rdms import RDMs
    from .utils.data import DataLoader, HDF5Dataset, ImageDataset, load_batches
    from .utils.loaded import LoadedFeatures
    from .utils.reading import load_features
    from .utils.storing import merge_features, save_features, split_features
    from .values.model import Model
    from .values.preprocessing import Preprocessing, PreprocessingOverrides
    from .values.provenance import Provenance
    from .values.records import ModelInfo, ModuleInfo
    from .values.reductions import Reduction
    from .verification.verdict import Verification
    from .verification.verify import verify

    __version__: str

__all__ = [
    "Client",
    "DataLoader",
    "Extraction",
    "Extractor",
    "FeatureStream",
    "HDF5Dataset",
    "ImageDataset",
    "LoadedFeatures",
    "Model",
    "ModelInfo",
    "ModuleInfo",
    "Preprocessing",
    "PreprocessingOverrides",
    "Provenance",
    "RDMs",
    "RSAResult",
    "Reduction",
    "Verification",
    "center_features",
    "compare_rdms",
    "compress_features",
    "compute_rdm",
    "connect",
    "correlate_rdms",
    "errors",
    "get_cka",
    "get_extractor",
    "get_extractor_from_model",
    "load_batches",
    "load_features",
    "local_server",
    "merge_features",
    "normalize_features",
    "origin_of",
    "plot_rdm",
    "plot_rdms",
    "read_origin",
    "rsa",
    "save_features",
    "split_features",
    "to_dataset",
    "to_rdms",
    "to_xarray",
    "verify",
]

_HOMES = {
    "Client": "client",
    "DataLoader": "utils.data",
    "Extraction": "rpc.extraction",
    "Extractor": "library.extractor",
    "FeatureStream": "rpc.feature_stream",
    "HDF5Dataset": "utils.data",
    "ImageDataset": "utils.data",
    "LoadedFeatures": "utils.loaded",
    "Model": "values.model",
    "ModelInfo": "values.records",
    "ModuleInfo": "values.records",
    "Preprocessing": "values.preprocessing",
    "PreprocessingOverrides": "values.preprocessing",
    "Provenance": "values.provenance",
    "RDMs": "rpc.rdms",
    "RSAResult": "analysis.result",
    "Reduction": "values.reductions",
    "Verification": "verification.verdict",
    "center_features": "core.features",
    "compare_rdms": "analysis.comparison",
    "compress_features": "core.features",
    "compute_rdm": "core.rsa",
    "connect": "client",
    "correlate_rdms": "core.rsa",
    "get_cka": "core.cka",
    "get_extractor": "library.extractor",
    "get_extractor_from_model": "library.own_network",
    "load_batches": "utils.data",
    "load_features": "utils.reading",
    "local_server": "library.server_process",
    "merge_features": "utils.storing",
    "normalize_features": "core.features",
    "origin_of": "origins",
    "plot_rdm": "core.rsa",
    "plot_rdms": "figures.rdm_grid",
    "read_origin": "origins",
    "rsa": "analysis.comparison",
    "save_features": "utils.storing",
    "split_features": "utils.storing",
    "to_dataset": "analysis.objects",
    "to_rdms": "analysis.objects",
    "to_xarray": "analysis.objects",
    "verify": "verification.verify",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(f"{__name__}.errors")
    if name == "__version__":
        return import_module(f"{__name__}.values.version").client_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


add_old_paths(__name__)
