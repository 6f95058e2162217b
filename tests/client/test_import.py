import inspect
import subprocess
import sys
from typing import Any

import pytest

import thingsvision_client
from thingsvision_client.core.cka import CKA
from thingsvision_client.library.batch_extraction import BatchExtraction
from thingsvision_client.library.extractor import Extractor

HEAVY = {"torch", "tensorflow", "matplotlib", "scipy", "pyarrow", "typer", "rich", "grpc"}


SIGNATURES = {
    "get_extractor": "model_name pretrained device source model_path model_parameters",
    "get_extractor_from_model": "model device backend preprocess forward_fn flatten_fn",
    "ImageDataset": "root out_path backend class_names file_names transforms",
    "HDF5Dataset": "hdf5_fp img_ds_key backend transforms img_indices",
    "DataLoader": "dataset batch_size backend",
    "load_batches": "root out_path backend batch_size class_names file_names transforms",
    "save_features": "features out_path file_format n_splits",
    "split_features": "root features file_format n_splits",
    "merge_features": "root file_format",
    "compute_rdm": "X method",
    "correlate_rdms": "rdm_1 rdm_2 correlation",
    "plot_rdm": "out_path X method format colormap show_plot",
    "get_cka": "backend m kernel unbiased sigma device verbose",
}
"""Parameters of the library's functions, in their order."""

METHODS = {
    "extract_features": "batches module_name module_names flatten_acts output_type output_dir "
    "step_size file_name_suffix save_in_one_file",
    "batch_extraction": "module_name module_names output_type",
    "align": "features module_name alignment_type",
    "show_model": "",
    "get_module_names": "",
    "get_transformations": "resize_dim crop_dim apply_center_crop",
    "get_backend": "",
    "get_output_types": "",
}
"""The same of an extractor's methods."""


def positional(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    loaded = run("import sys, thingsvision_client; print(*sys.modules)").split()
    assert not HEAVY & set(loaded)


def test_listing_models_loads_neither_numpy_nor_pyarrow(server: Any) -> None:
    code = (
        "import sys, thingsvision_client as c; "
        f"assert c.connect({server.address!r}).models('torchvision', 'alexnet'); "
        "print(*sys.modules)"
    )
    assert not {"numpy", "pyarrow"} & set(run(code).split())


def test_everything_else_needs_no_framework() -> None:
    code = (
        "import sys, thingsvision_client as c; [getattr(c, name) for name in c.__all__]; "
        "import thingsvision_client.cli, thingsvision_client.rpc.rdms; print(*sys.modules)"
    )
    assert not {"torch", "tensorflow", "matplotlib", "timm"} & set(run(code).split())


def test_every_name_of_the_library_has_its_parameters_in_their_order() -> None:
    for name, parameters in SIGNATURES.items():
        assert positional(getattr(thingsvision_client, name)) == parameters.split(), name
    for name, parameters in METHODS.items():
        assert positional(getattr(Extractor, name))[1:] == parameters.split(), name
    assert positional(BatchExtraction.extract_batch)[1:] == ["batch", "flatten_acts"]
    assert positional(CKA.compare)[1:] == ["X", "Y"]


def test_the_api_is_this() -> None:
    assert thingsvision_client.__all__ == [
        "Client", "DataLoader", "Extraction", "Extractor", "FeatureStream", "HDF5Dataset",
        "ImageDataset", "LoadedFeatures", "Model", "ModelInfo", "ModuleInfo",
        "Preprocessing", "PreprocessingOverrides", "Provenance", "RDMs", "RSAResult", "Reduction",
        "Verification", "center_features", "compare_rdms", "compress_features", "compute_rdm",
        "connect", "correlate_rdms", "errors", "get_cka", "get_extractor",
        "get_extractor_from_model", "load_batches", "load_features", "local_server",
        "merge_features", "normalize_features", "origin_of", "plot_rdm", "plot_rdms",
        "read_origin", "rsa", "save_features", "split_features", "to_dataset", "to_rdms",
        "to_xarray", "verify",
    ]  # fmt: skip
    for name in thingsvision_client.__all__:
        assert getattr(thingsvision_client, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        thingsvision_client.nonsense  # noqa: B018
