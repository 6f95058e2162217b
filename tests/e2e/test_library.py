"""A THINGSvision script over the network: the library's own names, files, orders and errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torchvision.models import squeezenet1_0

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    PreprocessingOverrides,
    compute_rdm,
    connect,
    correlate_rdms,
    errors,
    get_extractor,
    plot_rdm,
    save_features,
)
from thingsvision_client.images.png import png_of
from thingsvision_client.library.extractor import Extractor

MODULES = ["features.5", "classifier.3"]


@pytest.fixture
def root(tmp_path: Path, photos: list[Path]) -> Path:
    """Class folders whose names sort otherwise than the photographs were listed."""
    folder = tmp_path / "images"
    for number, photo in enumerate(photos):
        place = folder / ("zebra", "ape")[number % 2] / f"{number} ünï{photo.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    return folder


@pytest.fixture
def extractor(server: TestServer) -> Iterator[Extractor]:
    connect(server.address)
    return get_extractor(
        model_name="squeezenet1_0",
        pretrained=False,
        device="cpu",
        source="torchvision",
        model_parameters={"seed": 5},
    )


def alone(server: TestServer, path: Path, module: str) -> np.ndarray:
    """Return an image's features from a request of its own."""
    with Client(server.address) as client:
        model = "torchvision/squeezenet1_0@random:5"
        return client.extract(model, [path], [module], batch_size=1).features[module][0]


def test_rows_are_the_images_of_file_names_txt(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root=root, out_path=tmp_path, backend=extractor.get_backend())
    batches = DataLoader(dataset=dataset, batch_size=1, backend=extractor.get_backend())
    features = extractor.extract_features(batches=batches, module_names=MODULES)
    names = (tmp_path / "file_names.txt").read_text().splitlines()
    names = [name.removeprefix(f"{root}/") for name in names]
    classes = [name.partition("/")[0] for name in names]
    assert classes == sorted(classes)
    assert set(classes) == {"ape", "zebra"}
    for module in MODULES:
        for name, row in zip(names, features[module], strict=True):
            assert_close(row, alone(server, root / name, module))


def test_file_names_give_their_own_order(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    asked = [found[-1], found[0], found[2], found[1]]
    dataset = ImageDataset(root, tmp_path, extractor.get_backend(), file_names=asked)
    batches = DataLoader(dataset, 1, extractor.get_backend())
    features = extractor.extract_features(batches, "classifier.3", flatten_acts=True)
    lines = (tmp_path / "file_names.txt").read_text().splitlines()
    assert lines == [f"{root}/{name}" for name in asked]
    assert features.shape == (4, 1000)
    for name, row in zip(asked, features, strict=True):
        assert_close(row, alone(server, root / name, "classifier.3").ravel())


def test_features_are_saved_and_compared_as_in_the_library(
    extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root, tmp_path, "pt", transforms=extractor.get_transformations())
    features = extractor.extract_features(
        DataLoader(dataset, batch_size=2, backend="pt"), module_names=MODULES, flatten_acts=True
    )
    save_features(features["classifier.3"], out_path=str(tmp_path), file_format="npy")
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), features["classifier.3"])
    save_features(features, out_path=str(tmp_path), file_format="npz")
    saved = np.load(tmp_path / "features.npz")
    assert set(saved) == set(MODULES)
    rdms = [compute_rdm(features[module], method="correlation") for module in MODULES]
    assert -1 <= correlate_rdms(*rdms, correlation="spearman") <= 1
    plot_rdm(str(tmp_path), features["features.5"], method="cosine")
    assert (tmp_path / "rdm.png").read_bytes().startswith(b"\x89PNG")


def test_rdms_of_the_server_and_of_the_client_agree(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root, tmp_path, "pt")
    batches = DataLoader(dataset, batch_size=1, backend="pt")
    features = extractor.extract_features(batches, "features.5", flatten_acts=True)
    paths = [root / name for name in dataset.names]
    with Client(server.address) as client:
        for metric in ("correlation", "cosine", "euclidean", "gaussian"):
            rdms = client.rdm(
                extractor.model, paths, ["features.5"], metric=metric, dtype="float64", batch_size=1
            )
            local = compute_rdm(features, method=metric)
            np.testing.assert_allclose(rdms.rdms["features.5"], local, rtol=1e-9, atol=1e-12)


def test_the_model_is_shown_as_a_tree(
    extractor: Extractor, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor.show_model()
    shown = capsys.readouterr().out
    assert "Conv2d" in shown
    assert "squeeze" in shown
    names = extractor.get_module_names()
    assert names.index("features.0") < names.index("features.12") < names.index("classifier.3")


def test_wrong_names_are_value_errors_with_near_matches(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    batches = DataLoader(ImageDataset(root, tmp_path, "pt"), 2, "pt")
    with pytest.raises(ValueError, match=r"features\.1'"):
        extractor.extract_features(batches, module_name="feature.1")
    with pytest.raises(errors.UnknownModelError, match="'squeezenet1_0'"):
        get_extractor("squeezenet1_O", False, "cpu", "torchvision", server=server.address)
    with pytest.raises(errors.InvalidRequestError, match="exactly one"):
        extractor.extract_features(batches)


def test_a_device_that_the_server_lacks_gives_a_warning(server: TestServer) -> None:
    with pytest.warns(UserWarning, match="no device 'cuda'"):
        get_extractor("alexnet", False, "cuda", "torchvision", server=server.address)


def test_a_stream_of_a_generator_is_read_as_it_is_sent(client: Client, photos: list[Path]) -> None:
    opened = 0

    def images() -> Iterator[Path]:
        nonlocal opened
        for _ in range(60):
            for photo in photos:
                opened += 1
                yield photo

    small = PreprocessingOverrides(resize=64, crop=64)
    rows = client.stream(
        "torchvision/squeezenet1_0@random:5", images(), ["features.12"], preprocessing=small
    )
    names, _ = next(rows)
    assert opened < 60 * len(photos), "all images were read before the first rows came"
    rest = sum(len(more) for more, _ in rows)
    assert len(names) + rest == 60 * len(photos)


def test_a_file_that_vanishes_is_named_and_the_server_goes_on(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    missing = tmp_path / "gone.jpg"
    with pytest.raises(errors.ImageError, match=r"gone\.jpg"):
        client.extract("torchvision/squeezenet1_0@random:5", [*photos, missing], ["features.12"])
    found = client.extract("torchvision/squeezenet1_0@random:5", photos, ["features.12"])
    assert len(found.images) == len(photos)


def test_interleaved_nested_and_spelled_out_names_are_the_rows(
    server: TestServer, extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "bilder"
    names = ["zebra/1 é.png", "äpe/deep er/日本.png", "ape/1.png", "zebra/0/0/x.png", "ape/a b.png"]
    for number, name in enumerate(names):
        photo = photos[number % len(photos)]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, root / name)
    asked = [names[0], names[2], names[3], names[1], names[4], names[0]]
    dataset = ImageDataset(root, tmp_path, "pt", file_names=asked)
    features = extractor.extract_features(DataLoader(dataset, 1, "pt"), "features.5")
    lines = (tmp_path / "file_names.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{root}/{name}" for name in asked]
    assert dataset.targets.ravel().tolist() == [1, 0, 1, 2, 0, 1]
    for name, row in zip(asked, features, strict=True):
        assert_close(row, alone(server, root / name, "features.5"))


def test_ten_thousand_images_are_their_rows(client: Client, tmp_path: Path) -> None:
    """Each has features of its own, known without a server: twice its pixels."""
    shape, value = ["batch", 3, 2, 2], helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", "image"], ["twice"])],
        "Doubling",
        [value("image", onnx.TensorProto.FLOAT, shape)],
        [value("twice", onnx.TensorProto.FLOAT, shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "doubling.onnx").write_bytes(made.SerializeToString())
    declared = {"resize_pixels": [2, 2], "value_range": "0..255"}
    model = client.upload_model(tmp_path / "doubling.onnx", declared)
    extractor = get_extractor(model.name, True, None, "own", server=client.server)

    pixels = np.random.default_rng(2).integers(0, 256, (10_000, 2, 2, 3), dtype=np.uint8)
    root = tmp_path / "images"
    for number in range(100):
        (root / f"class {number % 7}" / f"{number:02}").mkdir(parents=True)
    names = [f"class {n % 100 % 7}/{n % 100:02}/{n} ü.png" for n in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        (root / name).write_bytes(png_of(image))
    places = {name: number for number, name in enumerate(names)}
    for asked in (None, names[::4]):
        dataset = ImageDataset(root, tmp_path / "out", "pt", file_names=asked)
        features = extractor.extract_features(DataLoader(dataset, 32, "pt"), "twice")
        lines = (tmp_path / "out/file_names.txt").read_text(encoding="utf-8").splitlines()
        rows = [line.removeprefix(f"{root}/") for line in lines]
        assert rows == asked if asked else sorted(rows) == sorted(names)
        order = [places[name] for name in rows]
        np.testing.assert_array_equal(features, 2.0 * pixels[order].transpose(0, 3, 1, 2))


def test_the_users_weights_are_sent_and_urls_are_not(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    torch.manual_seed(9)
    network = squeezenet1_0(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    extractor = get_extractor(
        "squeezenet1_0", True, "cpu", "torchvision", model_path=str(tmp_path / "mine.pth"),
        server=server.address,
    )  # fmt: skip
    batch = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = network.features[:6](batch).numpy()
    found = extractor.extract_batch(batch, "features.5")
    assert_close(found, expected)
    with pytest.raises(
        errors.InvalidRequestError, match=r"must be a file, got the URL .*: download it"
    ):
        get_extractor(
            "squeezenet1_0", True, "cpu", "torchvision", "https://example.org/mine.pth",
            server=server.address,
        )  # fmt: skip


def test_the_documentations_script_runs_from_its_own_paths(
    server: TestServer, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", server.address)
    from thingsvision_client import get_extractor
    from thingsvision_client.core.cka import get_cka
    from thingsvision_client.core.extraction import center_features
    from thingsvision_client.core.rsa import compute_rdm, correlate_rdms
    from thingsvision_client.utils.data import DataLoader, ImageDataset
    from thingsvision_client.utils.storing import save_features

    device = "cuda" if torch.cuda.is_available() else "cpu"
    extractor = get_extractor(
        model_name="squeezenet1_0", source="torchvision", device=device, pretrained=False
    )
    dataset = ImageDataset(
        root=str(root), out_path=str(tmp_path), backend=extractor.get_backend(),
        transforms=extractor.get_transformations(resize_dim=256, crop_dim=224),
    )  # fmt: skip
    batches = DataLoader(dataset=dataset, batch_size=32, backend=extractor.get_backend())
    features = extractor.extract_features(
        batches=batches, module_name="features.12", flatten_acts=True, output_type="ndarray"
    )
    save_features(features, out_path=str(tmp_path), file_format="npy")
    centred = center_features(features)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), features)
    rdms = [compute_rdm(x, method="euclidean") for x in (features, centred)]
    assert correlate_rdms(*rdms, correlation="pearson") == pytest.approx(1)
    cka = get_cka(backend="numpy", m=len(features), kernel="linear")
    assert cka.compare(X=features, Y=centred) == pytest.approx(1)


BARE = """
import sys

EXTRAS = ["torch", "torchvision", "tensorflow", "keras", "matplotlib", "h5py", "PIL", "pandas",
          "sklearn", "rsatoolbox", "xarray"]

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())

import numpy as np
import thingsvision_client as tv

server, root, out = sys.argv[1:]
extractor = tv.get_extractor("squeezenet1_0", False, "cpu", "torchvision", server=server)
batches = tv.load_batches(root, out, extractor.get_backend(), 2)
features = extractor.extract_features(batches, "classifier.3", flatten_acts=True)
extractor.extract_features(batches, "classifier.3", flatten_acts=True, output_dir=out)
with extractor.batch_extraction("features.5") as e:
    e.extract_batch(np.zeros((2, 3, 64, 64), np.float32))
for file_format in ("npy", "npz", "mat", "txt", "parquet"):
    tv.save_features(features, out, file_format)
tv.compute_rdm(tv.normalize_features(tv.center_features(features)))
tv.compress_features(features, 0)
tv.get_cka("torch", len(features)).compare(features, features)
for call in (
    lambda: extractor.extract_features(batches, "features.5", output_type="tensor"),
    lambda: tv.HDF5Dataset("a.h5", "images", "pt"),
    lambda: tv.get_extractor_from_model(object(), None, "pt", server=server),
    lambda: tv.plot_rdm(out, features),
    lambda: tv.save_features(features, out, "hdf5"),
):
    try:
        call()
    except tv.errors.MissingDependencyError as error:
        print(error)
np.save(out + "/found.npy", features)
"""


def test_all_of_it_needs_no_optional_package(
    server: TestServer, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE, server.address, root, out],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    said = told.stdout.splitlines()
    wanted = ["pip install torch", "[hdf5]", "pip install torch", "[plot]", "[hdf5]"]
    assert len(said) == len(wanted), told.stdout
    for line, part in zip(said, wanted, strict=True):
        assert part in line
    found = np.load(out / "found.npy")
    (chunk,) = (out / "classifier.3").glob("*.npy")
    np.testing.assert_array_equal(np.load(chunk), found)
    np.testing.assert_array_equal(np.load(out / "features.npy"), found)
