"""Names that users rely on: what could be imported, asked for or read at commit 70dc215 stays."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import thingsvision_client
import thingsvision_server
from thingsvision_client.cli import app
from thingsvision_client.client import Client
from thingsvision_client.core import metrics
from thingsvision_client.errors import ThingsvisionError
from thingsvision_client.library.parameters import PARAMETERS
from thingsvision_client.rpc import rdms
from thingsvision_server.settings import Settings

PATHS = {
    "utils.data": "DataLoader HDF5Dataset ImageDataset load_batches",
    "utils.storing": (
        "merge_features save_features save_targets slices2tensor split_features store_features "
        "tensor2slices"
    ),
    "core.rsa": "compute_rdm correlate_rdms plot_rdm",
    "core.cka": "CKA get_cka",
    "core.extraction": (
        "center_features compress_features get_extractor get_extractor_from_model "
        "normalize_features"
    ),
    "model_class": "Model",
    "vision": (
        "center_features compare_models compress_features compute_rdm correlate_rdms "
        "extract_features_across_datasets_and_modules extract_features_across_models_and_datasets "
        "extract_features_across_models_datasets_and_modules get_class_probabilities "
        "get_cls_mapping_imagenet get_features get_module_names load_dl load_item_names "
        "merge_features normalize_features plot_rdm save_features save_targets slices2tensor "
        "split_features store_features tensor2slices"
    ),
    "client": "Client connect",
    "cli": "main",
    "errors": (
        "BackendCrashedError ChecksumError DeadlineError DeviceLostError DeviceMemoryError "
        "DrainingError ExhaustedError ImageError IncompleteReplyError InvalidRequestError "
        "InvalidWeightsError LeaseLostError "
        "MissingDependencyError ModelInUseError ModelTooLargeError ModuleNeverRunsError "
        "NoServerError NotExtractableError NotFoundError NotResidentError PCAMismatchError "
        "PreconditionError RefusedError ServerError StalledError "
        "StoppedError StorageError ThingsvisionError "
        "UnavailableError UndefinedDistanceWarning UnknownImageError UnknownModelError "
        "UnknownModuleError UnknownPCAError UnknownSourceError UnknownWeightsError "
        "UnsupportedError WeightsMismatchError WeightsMissingError"
    ),
}
"""The modules that users import from, and their names."""

OPTIONS = {
    "delete_pca": "pca",
    "delete_upload": "sha256",
    "extract": (
        "model images modules batch_size token_extraction preprocessing precision dtype "
        "deterministic reduction memory_format compiled flatten on_error progress"
    ),
    "extract_texts": "model texts modules batch_size flatten progress",
    "fit_pca": (
        "model images modules components name batch_size token_extraction preprocessing precision "
        "deterministic reduction memory_format compiled on_error progress"
    ),
    "load": "model progress",
    "models": "source name_glob",
    "modules": "model",
    "pin": "model pinned",
    "preprocessing": "model",
    "rdm": (
        "model images modules metric dtype batch_size token_extraction preprocessing precision "
        "deterministic reduction memory_format compiled on_error progress"
    ),
    "rdm_of": "features names metric dtype progress",
    "server_images": "folder",
    "stream": (
        "model images modules batch_size token_extraction preprocessing precision dtype "
        "deterministic reduction memory_format compiled on_error"
    ),
    "unload": "model",
    "upload_model": "path preprocessing",
    "upload_weights": "path",
}
"""The parameters of the client's methods."""

COMMANDS = {
    "models": "--json --server --source",
    "show-model": (
        "--device --model-name --model-parameters --model-path --no-pretrained --pretrained "
        "--server --source"
    ),
    "extract-features": (
        "--batch-size --crop --device --file-format --flatten-acts --image-root --model-name "
        "--model-parameters --model-path --module-name --no-crop --no-pretrained --on-error "
        "--out-path --output-type --pretrained --resize --server --source --token-extraction"
    ),
    "verify": "--image-root --sample --seed --server",
    "compute-rdm": (
        "--batch-size --crop --device --image-root --method --model-name --model-parameters "
        "--model-path --module-name --no-crop --no-pretrained --on-error --out-path --plot "
        "--pretrained "
        "--resize --server --source --token-extraction"
    ),
    "rsa": (
        "--batch-size --bootstrap --correlation --crop --device --figure --image-root --method "
        "--model-name --model-parameters --model-path --module-name --no-crop --no-noise-ceiling "
        "--no-pretrained --noise-ceiling --on-error --out-path --pretrained --reference "
        "--reference-names "
        "--resize --seed --server --source --token-extraction"
    ),
    "plot-rdms": "--categories --colormap --columns --image-root --names --out --scale --units",
    "extract-texts": (
        "--batch-size --device --model-name --model-parameters --model-path --module-name "
        "--no-pretrained --out-path --pretrained --server --source --texts-file"
    ),
    "convert-features": "--file-format --names --out-path",
    "fit-pca": (
        "--batch-size --components --crop --device --image-root --model-name --model-parameters "
        "--model-path --module-name --name --no-crop --no-pretrained --pretrained --resize "
        "--server --source --token-extraction"
    ),
    "pcas": "--server",
    "delete-pca": "--server",
    "status": "--server",
    "load": "--server",
    "unload": "--server",
    "pin": "--server --unpin",
    "upload": "--preprocessing --server",
    "uploads": "--server",
    "delete-upload": "--server",
}
"""The options of each command."""

SETTINGS = """
    host port metrics_port device device_memory host_memory weights_dir allow_download
    tensorflow_python max_batch max_batch_bytes cpu_lanes decode_threads max_image_bytes
    max_image_pixels image_store image_root max_upload_bytes upload_quota pca_quota
    rdm_features_memory rdm_memory spill_dir drain_seconds stall_seconds lease_seconds wait_seconds
    decode_memory log_format log_level
"""
"""The options of the server."""

MODEL_PARAMETERS = """
    seed weights variant dataset token_extraction precision dtype deterministic memory_format
    compiled reduction
"""

METRICS = ["correlation", "cosine", "euclidean", "gaussian"]

FIELDS = """
    batch_size chunk compiled component_count element_type extraction.reduction.pca features
    folder header header.tensors image image.text input memory_format metric model model.name
    model.pretrained_tag model.random_seed model.source model.weights modules name overrides
    overrides.interpolation overrides.std pca reduction.pca reduction.pool_axes
    reduction.projection.component_count reduction.units server_path size_bytes tensors.shape
"""
"""What `field` of an error can be: the path of a field of the request."""

TOP_LEVEL = {"arrays", "cli", "client", "files", "old_paths", "program"}
ORIGINAL_LIBRARY = {"core", "model_class", "utils", "vision"}
"""Paths of the original library, which its users' scripts name."""

ROOMS = {
    "analysis", "calls", "citations", "commands", "display", "errors", "figures", "formats",
    "images", "jobs", "labels", "library", "matlab", "origins", "paper", "rpc", "values",
    "verification",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_public_names_are_where_they_were(path: str) -> None:
    module = import_module(f"thingsvision_client.{path}")
    for name in PATHS[path].split():
        assert callable(getattr(module, name)), name


def test_the_modules_of_the_library_are_reached_as_it_reaches_them() -> None:
    code = (
        "from thingsvision_client import get_extractor, ImageDataset, vision\n"
        "from thingsvision_client.core.extraction import get_extractor, center_features\n"
        "import thingsvision_client.vision as vision\n"
        "from thingsvision_client.model_class import Model\n"
        "assert Model is not None and vision.load_dl"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("method", OPTIONS)
def test_options_of_the_client_keep_their_names(method: str) -> None:
    parameters = inspect.signature(getattr(Client, method)).parameters
    assert set(OPTIONS[method].split()) <= set(parameters)


def test_options_of_commands_keep_their_names() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, options in COMMANDS.items():
        found = {
            spelling
            for parameter in commands[name].params
            for spelling in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(options.split()) <= found, name


def test_options_of_server_and_models_keep_their_names() -> None:
    assert set(SETTINGS.split()) <= set(Settings.model_fields)
    assert set(MODEL_PARAMETERS.split()) <= set(PARAMETERS)


def test_metrics_keep_their_names() -> None:
    assert list(metrics.METRICS) == list(rdms.METRICS) == METRICS


def test_errors_keep_their_fields() -> None:
    error = ThingsvisionError("text", request_id="1", field="model", subject="resnet")
    given = {"request_id": "1", "field": "model", "subject": "resnet"}
    told = {"retry_seconds": 0.0, "lost_servers": 0, "reply_had_begun": False}
    assert vars(error) == {**given, **told}
    longer = error.with_text("More.")
    assert (str(longer), vars(longer)) == ("text. More.", vars(error))


def test_paths_of_fields_in_errors_stay() -> None:
    root = Path(thingsvision_server.__file__).parent
    strings = {
        node.value
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(FIELDS.split()) <= strings


def test_the_top_level_stays_small() -> None:
    root = Path(thingsvision_client.__file__).parent
    modules = {path.stem for path in root.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in root.glob("*/__init__.py")}
    assert modules - ORIGINAL_LIBRARY <= TOP_LEVEL
    assert folders - ORIGINAL_LIBRARY <= ROOMS
