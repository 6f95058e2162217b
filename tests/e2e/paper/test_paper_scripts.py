"""Listings of the THINGSvision paper run as they are, and ask for a module."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet

from support.papers_features import alone, assert_same, environment, names_in
from support.serving import TestServer, serving
from thingsvision_client import vision
from thingsvision_client.core.rsa import compute_rdm, correlate_rdms

# The paper's appendix; imports, the line about torch.cuda, and what the scan lost aside: the
# rest of Model's arguments, and `file_format=`, without which the last call is not Python.
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
    """A server with random weights in place of the weights trained on ImageNet."""
    weights = tmp_path_factory.mktemp("alexnet")
    (weights / "torchvision").mkdir()
    torch.manual_seed(4)
    state = alexnet(weights=None).state_dict()
    save_file(state, weights / "torchvision" / "alexnet.IMAGENET1K_V1.safetensors")
    with serving(weights, drain_seconds=1.0) as server:
        yield server


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
        """Return the output up to a text, which has to come."""
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
