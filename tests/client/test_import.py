import subprocess
import sys

import pytest

import thingsvision_client

HEAVY = {"torch", "tensorflow", "matplotlib", "scipy", "pyarrow", "typer", "rich", "grpc"}


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    loaded = run("import sys, thingsvision_client; print(*sys.modules)").split()
    assert not HEAVY & set(loaded)


def test_everything_else_needs_no_framework() -> None:
    code = (
        "import sys, thingsvision_client as c; [getattr(c, name) for name in c.__all__]; "
        "import thingsvision_client.cli, thingsvision_client.rdms; print(*sys.modules)"
    )
    assert not {"torch", "tensorflow", "matplotlib", "timm"} & set(run(code).split())


def test_the_api_is_this() -> None:
    assert thingsvision_client.__all__ == [
        "Client", "DataLoader", "HDF5Dataset", "ImageDataset", "Model",
        "PreprocessingOverrides", "Reduction", "center_features", "compare_rdms",
        "compress_features", "compute_rdm", "connect", "correlate_rdms", "errors", "get_cka",
        "get_extractor", "get_extractor_from_model", "load_batches", "merge_features",
        "normalize_features", "plot_rdm", "plot_rdms", "rsa", "save_features", "split_features",
        "to_dataset", "to_rdms", "to_xarray", "verify",
    ]  # fmt: skip
    for name in thingsvision_client.__all__:
        assert getattr(thingsvision_client, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        thingsvision_client.nonsense  # noqa: B018
