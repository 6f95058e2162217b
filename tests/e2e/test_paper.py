"""Scripts of the THINGSvision paper over the network: its listings, its comparison of models."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet, squeezenet1_0

from support.serving import TestServer, serving
from thingsvision_client import Client, connect, vision
from thingsvision_client.core.rsa import compute_rdm, correlate_rdms
from thingsvision_client.errors import (
    InvalidRequestError,
    MissingDependencyError,
    UnknownModelError,
    UnknownModuleError,
)
from thingsvision_client.model_class import Model

SQUEEZENET = "torchvision/squeezenet1_0@random:0"

# The paper's appendix; imports, the line about torch.cuda, and what the scan lost aside: the
# rest of Model's arguments, and `file_format=`, without which the last call is no Python.
LISTING = """
import thingsvision_client.vision as vision

from thingsvision_client.model_class import Model
device = 'cpu'

model = Model(
    model_name='alexnet',
    pretrained=True,
    model_path=None,
    device=device,
    backend='pt',
)

dl = vision.load_dl(
    root="./images/",
    out_path="./alexnet/features.10/features/",
    batch_size=64,
    transforms=model.get_transformations(),
    backend="pt",
)

features, targets = model.extract_features(
    data_loader=dl,
    module_name='features.10',
    batch_size=64,
    flatten_acts=True,
    device=device,
)

vision.save_features(features, out_path="./alexnet/features.10/features/", file_format='npy')
"""

AFTERWARDS = """
import sys
assert not {'torch', 'tensorflow', 'h5py', 'matplotlib'} & set(sys.modules)
vision.save_targets(targets, "./targets", 'npy')
"""

# The calls of the paper's second section, with the variables of its Table 1.
WALK_THROUGH = """
import thingsvision_client.vision as vision
from thingsvision_client.model_class import Model

root = './images'
model_name = 'alexnet'
pretrained = True
batch_size = 2
backend = 'pt'
device = 'cpu'
file_format = 'txt'

model = Model(model_name, pretrained=pretrained, device=device)
module_name = model.show()
out_path = f'./{model_name}/{module_name}/features'
file_names = open('order.txt').read().splitlines()

dl = vision.load_dl(
    root=root,
    out_path=out_path,
    backend=backend,
    batch_size=batch_size,
    file_names=file_names,
    transforms=model.get_transformations(),
)
features, targets = model.extract_features(
    data_loader=dl,
    module_name=module_name,
    batch_size=batch_size,
    flatten_acts=True,
    device=device,
)
vision.save_features(features, out_path, file_format)
vision.save_features(features, out_path, file_format, n_splits=20)
vision.split_features(out_path, features, 'npy', n_splits=3)
features = vision.merge_features(out_path, 'npy')
tensor, _ = model.extract_features(dl, module_name='avgpool', flatten_acts=False)
vision.tensor2slices(PATH=out_path, file_name='avgpool.txt', features=tensor)
tensor = vision.slices2tensor(PATH=out_path, file='avgpool.txt')
rdm = vision.compute_rdm(features, method='correlation')
other = vision.compute_rdm(tensor.reshape(len(tensor), -1), method='correlation')
print('correlation', vision.correlate_rdms(rdm_1=rdm, rdm_2=other, correlation='spearman'))
vision.plot_rdm(out_path, features, method='correlation', format='.jpg', colormap='cividis')
vision.save_targets(targets, out_path, 'npy')
"""


@pytest.fixture(scope="module")
def alexnet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server with weights that stand for those trained on ImageNet."""
    weights = tmp_path_factory.mktemp("alexnet")
    (weights / "torchvision").mkdir()
    torch.manual_seed(4)
    state = alexnet(weights=None).state_dict()
    save_file(state, weights / "torchvision" / "alexnet.IMAGENET1K_V1.safetensors")
    with serving(weights, drain_seconds=1.0) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `images`: class folders that sort otherwise than the photographs."""
    for number, photo in enumerate(photos):
        place = tmp_path / "images" / ("zebra", "ape")[number % 2] / f"{number} ünï{photo.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connected(server: TestServer, here: Path) -> Path:
    """The working directory of a process that knows the shared server."""
    connect(server.address)
    return here


def environment(server: TestServer) -> dict[str, str]:
    return {**os.environ, "THINGSVISION_SERVER": server.address, "TERM": "xterm"}


def run(server: TestServer, folder: Path, script: str, answer: str = "") -> str:
    """Run a script as a user does, and return what it printed."""
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=environment(server),
        input=answer,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in(folder: Path) -> list[str]:
    return (folder / "file_names.txt").read_text(encoding="utf-8").splitlines()


def alone(server: TestServer, model: str, root: Path, names: list[str], module: str) -> np.ndarray:
    """Return the features of images, each of a request of its own, flattened."""
    with Client(server.address) as client:
        found = [client.extract(model, [root / name], module, flatten=True) for name in names]
    return np.concatenate([one.features[module] for one in found])


def assert_same(features: np.ndarray, expected: np.ndarray) -> None:
    """Other numbers of images in a pass may round otherwise."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features, expected, rtol=0, atol=2e-6 * scale)
    assert len({row.tobytes() for row in expected}) == len(expected), "images are alike"


# ---------------------------------------------------------------- the listings


def test_the_appendix_runs_word_for_word(alexnet_server: TestServer, here: Path) -> None:
    run(alexnet_server, here, LISTING + AFTERWARDS)
    folder = here / "alexnet/features.10/features"
    names = names_in(folder)
    assert names == sorted(names)
    assert len(names) == 5, "the paper's loader dropped the last batch, if not full"
    features = np.load(folder / "features.npy")
    model = "torchvision/alexnet"
    assert_same(features, alone(alexnet_server, model, here / "images", names, "features.10"))
    assert (features < 0).mean() > 0.3, "the ReLU after the convolution overwrote its output"
    targets = np.load(here / "targets/targets.npy")
    classes = ["ape", "zebra"]
    np.testing.assert_array_equal(targets, [[classes.index(n.partition("/")[0])] for n in names])


def test_the_second_section_runs_word_for_word(alexnet_server: TestServer, here: Path) -> None:
    order = ["zebra/4 ünï.jpg", "ape/1 ünï.png", "zebra/0 ünï.png", "ape/3 ünï.png"]
    (here / "order.txt").write_text("\n".join(order))
    said = run(alexnet_server, here, WALK_THROUGH, answer="classifier.4\n")
    assert "classifier.4: Linear(in_features=4096, out_features=4096, bias=True) -> 4096" in said
    assert "Enter module name for which you would like to extract features: " in said
    folder = here / "alexnet/classifier.4/features"
    assert names_in(folder) == order
    features = np.loadtxt(folder / "features.txt").astype(np.float32)
    model, root = "torchvision/alexnet", here / "images"
    assert_same(features, alone(alexnet_server, model, root, order, "classifier.4"))
    np.testing.assert_array_equal(np.load(folder / "targets.npy"), [[1], [0], [1], [0]])
    pieces = [np.load(folder / f"features_0{number}.npy") for number in (1, 2, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), features)
    other = vision.slices2tensor(folder, "avgpool.txt")
    assert other.shape == (4, 256, 6, 6)
    flat = other.reshape(4, -1)
    assert_same(flat, alone(alexnet_server, model, root, order, "avgpool"))
    rdms = compute_rdm(features), compute_rdm(flat)
    correlation = float(said.rpartition("correlation")[2])
    assert correlation == pytest.approx(correlate_rdms(*rdms, "spearman"), abs=1e-9)
    assert (folder / "rdm.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


# ---------------------------------------------------------------- the prompt

SHOWING = """
from thingsvision_client.model_class import Model
model = Model("squeezenet1_0", pretrained=False, device="cpu")
print("chosen:", repr(model.show()))
"""


class Terminal:
    """A script at a terminal: what it has printed, and keys for it."""

    def __init__(self, server: TestServer, script: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(server),
            start_new_session=True,
        )
        os.close(theirs)
        self._printed = ""

    def read_until(self, text: str) -> str:
        """Return what is printed up to a text, which has to come."""
        end = time.monotonic() + 60
        while text not in self._printed:
            ready, _, _ = select.select([self._ours], [], [], 1)
            assert time.monotonic() < end, f"{text!r} did not come: {self._printed!r}"
            if ready:
                self._printed += os.read(self._ours, 65536).decode()
        before, _, self._printed = self._printed.partition(text)
        return before

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> int:
        code = self.process.wait(30)
        os.close(self._ours)
        return code


def test_a_terminal_completes_names_with_tab_and_asks_again(server: TestServer) -> None:
    pytest.importorskip("readline")
    terminal = Terminal(server, SHOWING)
    modules = terminal.read_until("extract features: ")
    assert "features.3.squeeze: Conv2d(" in modules
    terminal.type("features.77\n")
    assert "There is no module 'features.77'; near: features.7" in terminal.read_until(
        "extract features: "
    )
    terminal.type("\n")
    assert "There is no module ''" in terminal.read_until("extract features: ")
    terminal.type("fea\t")
    terminal.read_until("features")
    terminal.type(".3.ex\t")
    terminal.read_until("pand")
    terminal.type("3x3_\t\n")
    terminal.read_until("chosen: ")
    assert terminal.read_until("\r\n") == "'features.3.expand3x3_activation'"
    assert terminal.close() == 0


# ---------------------------------------------------------------- where models come from


@pytest.mark.parametrize(
    ("name", "backend", "found"),
    [
        ("resnet50", "pt", "torchvision/resnet50"),  # timm has it, too
        ("cornet-s", "pt", "custom/cornet-s"),
        ("clip-ViT", "pt", "custom/clip/ViT-B-32"),
        ("clip-RN", "pt", "custom/clip/RN50"),
        ("Alexnet_ecoset", "pt", "custom/Alexnet_ecoset"),
        ("tf_efficientnet_lite0", "pt", "timm/tf_efficientnet_lite0"),
        ("VGG16", "tf", "keras/VGG16"),
    ],
)
def test_a_name_alone_finds_its_source(
    connected: Path, name: str, backend: str, found: str
) -> None:
    model = Model(name, pretrained=False, device="cpu", backend=backend)
    assert str(model.extractor.model) == f"{found}@random:0"
    assert str(Model(name, True, "cpu", None, backend).extractor.model) == found


@pytest.mark.parametrize(
    ("name", "backend", "said"),
    [
        ("alexnett", "pt", "near: alexnet"),
        ("vgg16", "tf", "near: VGG16, VGG19; there is one with backend='pt'"),
        ("clip-vit", "pt", "near: clip-ViT"),
        ("MobileNetV2", "pt", "; there is one with backend='tf'"),
        ("[ab]*?", "pt", "no model '[ab]*?' with backend='pt'."),
    ],
)
def test_an_unknown_name_says_which_are_near(
    connected: Path, name: str, backend: str, said: str
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        Model(name, pretrained=True, device="cpu", backend=backend)
    assert said in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_source_can_be_named(server: TestServer) -> None:
    model = Model(
        "clip",
        pretrained=True,
        device="cpu",
        server=server.address,
        source="custom",
        model_parameters={"variant": "ViT-B/32"},
    )
    assert str(model.extractor.model) == "custom/clip/ViT-B-32"
    timm = Model("resnet50", False, "cpu", server=server.address, source="timm")
    assert str(timm.extractor.model) == "timm/resnet50@random:0"
    with pytest.raises(InvalidRequestError, match="keras/VGG16 runs with backend='tf'"):
        Model("VGG16", False, "cpu", server=server.address, source="keras")
    with pytest.raises(InvalidRequestError, match="backend is one of pt, tf"):
        Model("VGG16", False, "cpu", backend="jax")


def test_a_device_that_the_server_lacks_is_warned_of_at_the_users_line(connected: Path) -> None:
    with pytest.warns(UserWarning, match="no device 'cuda'") as caught:
        Model("squeezenet1_0", pretrained=False, device="cuda")
    assert [Path(one.filename).name for one in caught] == [Path(__file__).name]


# ---------------------------------------------------------------- features


@pytest.fixture
def squeezenet(connected: Path) -> Model:
    return Model("squeezenet1_0", pretrained=False, device="cpu")


def load(model: Model, batch_size: int = 2, **choices: Any) -> Any:
    transforms = model.get_transformations()
    return vision.load_dl(
        "images", "out", model.backend, batch_size, transforms=transforms, **choices
    )


def test_flatten_acts_has_no_default(squeezenet: Model) -> None:
    with pytest.raises(InvalidRequestError, match="flatten_acts has no default"):
        squeezenet.extract_features(load(squeezenet), "features.0", 2)


def test_maps_keep_their_shape_if_asked(server: TestServer, squeezenet: Model) -> None:
    features, targets = squeezenet.extract_features(
        load(squeezenet), "features.12", flatten_acts=False
    )
    assert features.shape == (5, 512, 13, 13)
    names = names_in(Path("out"))
    expected = alone(server, SQUEEZENET, Path("images"), names, "features.12")
    assert_same(features.reshape(5, -1), expected)
    assert targets.tolist() == [[0], [0], [1], [1], [1]]


def test_choices_that_do_not_count_are_warned_of(squeezenet: Model) -> None:
    loader = load(squeezenet)
    with pytest.warns(UserWarning, match="batch_size=3 is not that of data_loader, 2") as caught:
        squeezenet.extract_features(loader, "classifier.3", 3, flatten_acts=True)
    assert Path(caught[0].filename).name == Path(__file__).name
    with pytest.warns(UserWarning, match="device='cuda' is not that of the model, 'cpu'"):
        squeezenet.extract_features(loader, "classifier.3", 2, True, "cuda")


def test_a_loader_of_ones_own_gives_its_rows_and_targets(squeezenet: Model) -> None:
    torch.manual_seed(1)
    images, classes = torch.randn(5, 3, 64, 64), torch.tensor([3, 1, 4, 1, 5])
    dataset = torch.utils.data.TensorDataset(images, classes)
    features, targets = squeezenet.extract_features(
        torch.utils.data.DataLoader(dataset, batch_size=2), "classifier.3", flatten_acts=True
    )
    assert targets.tolist() == [[3], [1], [4], [1], [5]]
    with Client(squeezenet.extractor.client.server) as client:
        rows = [client.extract(SQUEEZENET, one[None].numpy(), "classifier.3") for one in images]
    expected = np.concatenate([row.features["classifier.3"].reshape(1, -1) for row in rows])
    assert_same(features, expected)


def test_probabilities_come_from_the_same_forward_pass(
    server: TestServer, squeezenet: Model
) -> None:
    def passes() -> float:
        registry = server.running.metrics.registry
        return registry.get_sample_value("thingsvision_images_total") or 0

    loader, before = load(squeezenet), passes()
    features, targets, probabilities = squeezenet.extract_features(
        loader, "features.3", flatten_acts=True, return_probabilities=True
    )
    assert passes() - before == 5
    names = names_in(Path("out"))
    assert_same(features, alone(server, SQUEEZENET, Path("images"), names, "features.3"))
    assert targets.tolist() == [[0], [0], [1], [1], [1]]
    scores = alone(server, SQUEEZENET, Path("images"), names, "classifier.3")
    assert_same(probabilities, torch.softmax(torch.tensor(scores), 1).numpy())
    Path("classes.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    best = vision.get_class_probabilities(probabilities, "out", "classes.txt", 1, False)
    assert list(best) == names
    assert [[int(k[6:]) for k in one] for one in best.values()] == (
        scores.argmax(1)[:, None].tolist()
    )


def test_probabilities_of_keras_are_those_of_its_own_softmax(
    server: TestServer, connected: Path
) -> None:
    model = Model("MobileNetV2", pretrained=False, device="cpu", backend="tf")
    loader = load(model, batch_size=5)
    features, targets, probabilities = model.extract_features(
        loader, "global_average_pooling2d", flatten_acts=True, return_probabilities=True
    )
    with Client(server.address) as client:
        images = [Path("images", name) for name in names_in(Path("out"))]
        modules = ["global_average_pooling2d", "predictions"]
        found = client.extract(model.extractor.model, images, modules, batch_size=5).features
    np.testing.assert_array_equal(features, found["global_average_pooling2d"])
    np.testing.assert_array_equal(probabilities, found["predictions"])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert targets.tolist() == [[0], [0], [1], [1], [1]]


def test_clip_has_no_class_probabilities(connected: Path) -> None:
    model = Model("clip-RN", pretrained=False, device="cpu")
    with pytest.raises(InvalidRequestError, match="CLIP"):
        model.extract_features(
            load(model), "visual", flatten_acts=True, clip=True, return_probabilities=True
        )


def test_weights_of_ones_own_are_taken(server: TestServer, connected: Path) -> None:
    torch.manual_seed(9)
    network = squeezenet1_0(weights=None).eval()
    torch.save(network.state_dict(), "own.pth")
    model = Model("squeezenet1_0", pretrained=False, device="cpu", model_path="own.pth")
    images = torch.randn(2, 3, 64, 64)
    features, _ = model.extract_features([(images, [0, 1])], "classifier.3", flatten_acts=True)
    with torch.inference_mode():
        expected = network.classifier(network.features(images)).reshape(2, -1).numpy()
    assert_same(features, expected)


# ---------------------------------------------------------------- several models


def test_module_names_are_found_by_a_pattern(squeezenet: Model) -> None:
    found = vision.get_module_names(squeezenet, "squeeze$")
    assert found[:2] == ["features.3.squeeze", "features.4.squeeze"]
    assert len(found) == 8
    assert "features.3.squeeze_activation" in vision.get_module_names(squeezenet, "squeeze")
    with pytest.raises(InvalidRequestError, match="no regular expression"):
        vision.get_module_names(squeezenet, "features.[")


COMPARED = {"squeezenet1_0": "classifier.3", "squeezenet1_1": "features.6"}


def test_models_are_compared_as_by_hand(server: TestServer, connected: Path) -> None:
    noise = np.random.default_rng(0).random((5, 5))
    table = vision.compare_models(
        root="images",
        out_path="out",
        model_names=list(COMPARED),
        module_names=list(COMPARED.values()),
        pretrained=False,
        batch_size=32,
        backend="pt",
        flatten_acts=True,
        clip=[False, False],
        save_features=True,
        dissimilarity="cosine",
        correlation="spearman",
        reference_rdms={"noise": noise + noise.T},
    )
    labels = [*COMPARED, "noise"]
    assert list(table.index) == list(table.columns) == labels
    names = names_in(Path("out"))
    rdms = {"noise": noise + noise.T}
    for name, module in COMPARED.items():
        features = np.load(f"out/{name}/{module}/features.npy")
        model = f"torchvision/{name}@random:0"
        assert_same(features, alone(server, model, Path("images"), names, module))
        rdms[name] = compute_rdm(features, "cosine")
    for row in labels:
        for column in labels:
            expected = correlate_rdms(rdms[row], rdms[column], "spearman")
            assert table.loc[row, column] == pytest.approx(expected, abs=1e-12)


def test_features_by_model_and_module_are_returned(server: TestServer, connected: Path) -> None:
    found = vision.get_features(
        root="images",
        out_path="out",
        model_names=["squeezenet1_0", "squeezenet1_0"],
        module_names=["features.5", "classifier.3"],
        clip=[False, False],
        pretrained=False,
        batch_size=2,
        flatten_acts=True,
    )
    assert {model: list(one) for model, one in found.items()} == {
        "squeezenet1_0": ["features.5", "classifier.3"]
    }
    names = names_in(Path("out"))
    for module, features in found["squeezenet1_0"].items():
        assert_same(features, alone(server, SQUEEZENET, Path("images"), names, module))


FIGURE_2 = {
    "classifier.3": {"human IT": 0.3081, "monkey IT": 0.3858, "behaviour": 0.5385},
    "features.12": {"human IT": 0.3727, "monkey IT": 0.5903, "behaviour": 0.4809},
}


def test_one_call_compares_a_trained_model_with_brains_and_behaviour(
    shared_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights/torchvision/squeezenet1_0.IMAGENET1K_V1.pth"
    weights.parent.mkdir(parents=True)
    shutil.copy(shared_data / "squeezenet1_0-imagenet.pth", weights)
    data = shared_data / "rsa92"
    files = {"human IT": "human_it", "monkey IT": "monkey_it", "behaviour": "behaviour"}
    references = {name: np.load(data / f"{file}.npy") for name, file in files.items()}
    with serving(tmp_path / "weights", drain_seconds=1.0) as server:
        connect(server.address)
        table = vision.compare_models(
            root=data / "stimuli",
            out_path=tmp_path,
            model_names=["squeezenet1_0"] * 2,
            module_names=list(FIGURE_2),
            pretrained=True,
            batch_size=16,
            backend="pt",
            flatten_acts=True,
            clip=False,
            save_features=False,
            reference_rdms=references,
        )
    assert table.shape == (5, 5)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(np.diag(table), 1)
    for module, row in FIGURE_2.items():
        for reference, value in row.items():
            found = table.loc[f"squeezenet1_0 ({module})", reference]
            assert found == pytest.approx(value, abs=5.1e-5)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"flatten_acts": None}, "flatten_acts has no default"),
        ({"module_names": ["features.3"]}, "one module"),
        ({"module_names": "features.3"}, "module_names is a list"),
        ({"clip": [True]}, "one module"),
        ({"dissimilarity": "cosinus"}, "dissimilarity is one of correlation, cosine"),
        ({"correlation": "kendall"}, "correlation is one of pearson, spearman, not 'kendall'"),
        ({"reference_rdms": {"it": np.eye(4)}}, "5 images, but reference_rdms have"),
        ({"reference_rdms": {"squeezenet1_0": np.eye(5)}}, "called the same"),
        ({"module_names": ["features.3"] * 2, "model_names": ["squeezenet1_0"] * 2}, "the same"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_sent(
    here: Path, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any], said: str
) -> None:
    connect("127.0.0.1:1")  # where nobody listens
    given = {
        "root": "images",
        "out_path": "out",
        "model_names": list(COMPARED),
        "module_names": list(COMPARED.values()),
        "pretrained": False,
        "batch_size": 2,
        "flatten_acts": True,
    }
    with pytest.raises(InvalidRequestError, match=said):
        vision.compare_models(**given | choices)


def test_a_comparison_without_pandas_says_what_to_install(
    connected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"thingsvision-service\[pandas\]"):
        vision.compare_models("images", "out", ["a"], ["b"], False, 2, "pt", True, False)


def test_features_across_models_and_datasets_lie_where_they_did(
    server: TestServer, connected: Path
) -> None:
    shutil.copytree("images/ape", "more images")
    vision.extract_features_across_models_and_datasets(
        out_path="out",
        model_names=list(COMPARED),
        img_paths=["./images", connected / "more images"],
        module_names=list(COMPARED.values()),
        clip=[False, False],
        pretrained=False,
        batch_size=2,
        flatten_acts=True,
    )
    second = Path("out", *(connected / "more images").parts[1:])
    for folder, root in [(Path("out/images"), Path("images")), (second, Path("more images"))]:
        for name, module in COMPARED.items():
            place = folder / name / module / "features"
            found = np.loadtxt(place / "features.txt").astype(np.float32)
            model = f"torchvision/{name}@random:0"
            assert_same(found, alone(server, model, root, names_in(place), module))
    assert not (connected / "more images/squeezenet1_0").exists()


def test_features_across_datasets_and_modules_are_of_every_module_that_matches(
    server: TestServer, connected: Path
) -> None:
    vision.extract_features_across_datasets_and_modules(
        "out", ["squeezenet1_0"], ["images"], ["classifier"], [False], False, 32, "pt", False, "npy"
    )
    folder = Path("out/images/squeezenet1_0")
    modules = ["classifier", "classifier.0", "classifier.1", "classifier.2", "classifier.3"]
    assert sorted(path.name for path in folder.iterdir()) == modules
    found = {module: np.load(folder / module / "features/features.npy") for module in modules}
    assert found["classifier.1"].shape == (5, 1000, 13, 13)
    assert (found["classifier.1"] < 0).any(), "the ReLU after it overwrote its output"
    for module, features in found.items():
        names = names_in(folder / module / "features")
        expected = alone(server, SQUEEZENET, Path("images"), names, module)
        assert_same(features.reshape(5, -1), expected)


@pytest.mark.parametrize(
    ("modules", "flatten", "kind", "error", "said"),
    [
        (["classifier.3", "features.6"], False, "txt", InvalidRequestError, "2 dimensions"),
        (["classifier.3", "features.99"], True, "txt", UnknownModuleError, "features.9"),
        (["classifier.3", "features.6"], True, "tsv", InvalidRequestError, "no file format 'tsv'"),
    ],
)
def test_a_study_that_can_not_end_is_not_begun(
    connected: Path, modules: list[str], flatten: bool, kind: str, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        vision.extract_features_across_models_and_datasets(
            "out", list(COMPARED), ["images"], modules, False, False, 2, "pt", flatten, kind
        )
    assert not Path("out").exists()
