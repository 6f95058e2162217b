"""Every parameter of every public function refuses values of other types, by its name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.public_objects import public_objects
from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    HDF5Dataset,
    ImageDataset,
    Model,
    Preprocessing,
    PreprocessingOverrides,
    Reduction,
    get_extractor,
)
from thingsvision_client.analysis.comparison import compare_rdms
from thingsvision_client.core.cka import CKA
from thingsvision_client.model_class import Model as PaperModel
from thingsvision_client.values.preprocessing_step import PreprocessingStep

ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
RDM = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
PHOTO = "0.png"

TEXT = [None, 3, 2.5, b"x", ["x"], {"x": 1}, ROWS]
PATH = [None, 3, b"x", ["x"], {"x": 1}, ROWS]
WHOLE = [None, "32", 2.5, True, [1], ROWS]
NUMBER = [None, "wide", [1.0], {"x": 1}, ROWS]
TRUTH = [None, "yes", 2, 0.5, [True], ROWS]
LIST = [None, 3, "x", b"x", {"x": 1}]
MAPPING = [None, 3, "x", ["x"]]
ARRAY = [None, 3, "x", b"x", Path("x"), True, {"x": 1}]
OTHER = [None, 3, "x", ["x"], ROWS]
CALLABLE = [3, "x", ["x"]]

WRONG: dict[str, list[Any]] = {
    "str": TEXT,
    "str | Path": PATH,
    "Path": PATH,
    "int": WHOLE,
    "float": NUMBER,
    "bool": TRUTH,
    "Sequence[str]": LIST,
    "Sequence[int]": LIST,
    "Sequence[int] | Sequence[bool] | Any": [object()],
    "Sequence[float]": LIST,
    "Sequence[Score]": LIST,
    "Sequence[BadImage]": LIST,
    "Sequence[str | Path]": LIST,
    "Sequence[str | CachedImage]": LIST,
    "bool | Sequence[bool]": [None, 3, "x", {"x": 1}],
    "int | str": [None, 2.5, b"x", {"x": 1}],
    "int | Sequence[int]": [None, 2.5, "x", {"x": 1}],
    "int | Sequence[int] | bool": [2.5, "x", {"x": 1}],
    "str | Sequence[str]": [None, 3, b"x", {"x": 1}],
    "str | Path | Sequence[str | Path]": [3, b"x", {"x": 1}],
    "Mapping[str, Any]": MAPPING,
    "Mapping[str, npt.ArrayLike]": MAPPING,
    "npt.ArrayLike": ARRAY,
    "Array": ARRAY,
    "Array | Mapping[str, Array]": ARRAY[:-1],
    "Features": ARRAY[:-1],
    "str | Path | Features": [None, 3, b"x"],
    "Features | str | Path": [None, 3, b"x"],
    "Images | ImageQueue": [None, 3, b"x", {"x": 1}],
    "Texts": [None, 3, b"x", {"x": 1}],
    "Model | str": TEXT,
    "Model | str | Extractor": TEXT,
    "str | Model | Upload | PCA | CachedImage": TEXT,
    "Model": OTHER,
    "RDMs": OTHER,
    "RDMs | Mapping[str, Any]": OTHER,
    "Extraction": OTHER,
    "Extraction | RDMs": OTHER,
    "Client": OTHER,
    "Sample": OTHER,
    "Reduction": [3, "x", ["x"], {"pool": "mean"}],
    "PreprocessingOverrides | Preprocessing": [3, "x", ["x"]],
    "Preprocessing | Mapping[str, Any]": [3, "x", ["x"]],
    "Callable[..., Any]": CALLABLE,
    "ProgressChoice": ["x", ["x"], 2.5],
    "Progress": ["x", ["x"], 2.5],
    "LoadProgress": ["x", ["x"], 2.5],
    "slice": OTHER,
    "tuple[int, ...]": [3.5, "x", {"x": 1}],
    "tuple[float, ...]": ["x", {"x": 1}],
    "tuple[PreprocessingStep, ...]": [3, "x"],
    "References": [None, 3, object()],
    "DeviceName": [3, b"x", ["x"], ROWS],
    "Any": [object()],
}
"""Values that no parameter of a type may have, by the type; `| None` also takes None."""

FITTING: dict[str, Any] = {
    "str": "npy",
    "str | Path": "results",
    "int": 3,
    "float": 0.5,
    "bool": False,
    "Sequence[str]": ["a"],
    "Sequence[Score]": [],
    "Sequence[str | Path]": ["a"],
    "Sequence[str | CachedImage]": ["0" * 64],
    "bool | Sequence[bool]": False,
    "str | Sequence[str]": ["a"],
    "npt.ArrayLike": ROWS,
    "Array": ROWS,
    "Array | Mapping[str, Array]": ROWS,
    "Features": ROWS,
    "Features | str | Path": ROWS,
    "str | Path | Features": "results",
    "Images | ImageQueue": [PHOTO],
    "Texts": ["a"],
    "Model | str": "torchvision/alexnet",
    "Model | str | Extractor": "torchvision/alexnet",
    "str | Model | Upload | PCA | CachedImage": "0" * 64,
    "Any": ROWS,
}
"""A value for each parameter that comes before, by the type; None for the rest."""

BY_NAME: dict[str, Any] = {
    "path": "results.png",
    "rdms": {"a": RDM},
    "reference_rdms": RDM,
    "given": RDM,
    "data_loader": [],
    "module_name": "features.3",
    "module": "features.3",
    "model_names": ["alexnet"],
    "module_names": ["features.3"],
    "components": 2,
    "flatten_acts": True,
    "batch_size": 2,
    "backend": "pt",
}
"""Values for parameters of these names."""

SECRET = {"token"}
"""Parameters whose values no error shows."""

UNUSED = {"core.cka.get_cka.device"}
"""Parameters without effect, which take everything."""

RECORDS = re.compile(
    r"errors\.|values\.(records|provenance|pca)\.|rpc\.|analysis\.(score|result\.RSAResult$)|"
    r"verification\.verdict|library\.batch_extraction|library\.server_process\.LocalServer$|utils\.loaded\.|.*\.(from_spec)$"
)
"""Classes that users get, but never make, and what reads messages."""


def parameters() -> Iterator[tuple[str, str]]:
    for name, thing in public_objects().items():
        if RECORDS.match(name):
            continue
        for one in inspect.signature(thing).parameters.values():
            is_named = one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != "self"
            if is_named and f"{name}.{one.name}" not in UNUSED:
                yield name, one.name


@pytest.fixture(scope="module")
def objects(
    server: TestServer, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> dict[str, Any]:
    """An object of each class that users make, by the names of their methods."""
    folder = tmp_path_factory.mktemp("objects")
    with h5py.File(folder / "stimuli.h5", "w") as file:
        file["images"] = np.zeros((2, 8, 8, 3), np.uint8)
    dataset = ImageDataset(photos[0].parent, folder, "pt", file_names=[photos[0].name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THINGSVISION_SERVER", server.address)
        extractor = get_extractor("squeezenet1_0", False, None, "torchvision")
        model = PaperModel("squeezenet1_0", pretrained=False, device=None)
    client = Client(server.address)
    small = client.extract("torchvision/squeezenet1_0@random:0", photos[:1], "features.3")
    return {
        "photos": photos[0].parent,
        "stimuli.h5": folder / "stimuli.h5",
        "rpc.extraction.Extraction": small,
        "client.Client": client,
        "core.cka.CKA": CKA(6),
        "library.extractor.Extractor": extractor,
        "paper.model.Model": model,
        "utils.data.ImageDataset": dataset,
        "utils.data_loader.DataLoader": DataLoader(dataset, 1, "pt"),
        "utils.hdf5_dataset.HDF5Dataset": HDF5Dataset(folder / "stimuli.h5", "images", "pt"),
        "values.model.Model": Model("torchvision", "alexnet"),
        "values.preprocessing.Preprocessing": Preprocessing(),
        "values.preprocessing.PreprocessingOverrides": PreprocessingOverrides(crop=8),
        "values.preprocessing_step.PreprocessingStep": PreprocessingStep("resize"),
        "values.reductions.Reduction": Reduction(units=[1]),
        "analysis.result.RSAResult": compare_rdms(RDM, RDM, bootstrap=0),
    }


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_wrong_types_are_refused_by_name(
    name: str,
    parameter: str,
    objects: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: TestServer,
) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", server.address)
    monkeypatch.chdir(tmp_path)
    function = public_objects()[name]
    owner = objects.get(name.rpartition(".")[0])
    if owner is not None and not inspect.isclass(function):
        function = getattr(owner, name.rpartition(".")[2])
    declared = inspect.signature(function).parameters[parameter].annotation
    for value in _wrong_values(declared):
        message = _refusal(function, parameter, value, objects)
        assert f"`{parameter}`" in message, (value, message)
        assert parameter in SECRET or _names(value, message), (value, message)
        assert re.search(r"must|can't|takes", message), (value, message)
        assert len(message) < 2000, message
    assert not list(tmp_path.iterdir()), "something was written"


def _wrong_values(declared: str) -> list[Any]:
    takes_none = declared.endswith(" | None")
    values = WRONG[declared.removesuffix(" | None")]
    return [value for value in values if value is not None] if takes_none else values


def _refusal(
    function: Callable[..., Any], parameter: str, value: Any, objects: dict[str, Any]
) -> str:
    """Call a function with a wrong value, by its name and in its place; return what it says."""
    signature = inspect.signature(function)
    given = {
        one.name: BY_NAME.get(one.name, FITTING.get(one.annotation))
        for one in signature.parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }
    if given.get("model", "") is None:  # of the paper's façade
        given["model"] = objects["paper.model.Model"]
    for name in {"extraction", "record"} & given.keys():
        given[name] = objects["rpc.extraction.Extraction"]
    if parameter in ("batch", "batches", "data_loader"):
        given |= {"module_name": "features.3", "flatten_acts": False}
    if parameter in ("data_loader", "transforms") and "batch_size" in signature.parameters:
        given["batch_size"] = 2
    if parameter == "transforms" and "root" in signature.parameters:
        given["root"] = objects["photos"]
    if parameter == "img_indices":
        given |= {"hdf5_fp": objects["stimuli.h5"], "img_ds_key": "images"}
    given[parameter] = value
    try:
        function(**given)
    except (TypeError, ValueError) as error:
        return str(error)
    pytest.fail(f"{function.__qualname__} takes {parameter}={value!r}")


def _names(value: Any, message: str) -> bool:
    if isinstance(value, np.ndarray):
        return "(6, 8)" in message
    return repr(value)[:40] in message or type(value).__name__ in message
