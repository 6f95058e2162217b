"""Every model of every source gives what its network gives: a sample, or with `--all` all of them.

An ordinary run takes the smallest model of some families of each source. With `--all`, models
that were walked with the libraries installed here are left out, so that it may be stopped and
started again, and processes may share the work; docs/zoo.jsonl remembers.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from walking import walk
from walks import FILE, RUN, add_walk, read_walks

from support.serving import open_sources
from thingsvision_server.backends.tensorflow.model import KerasNetwork, KerasWeights
from thingsvision_server.errors import WeightsMissingError
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelEntry, ModelKey, Pretrained, Random, Uploaded
from thingsvision_server.sources.facts import LIBRARIES
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement

SAMPLED = {
    "custom": (2, 60_000_000),
    "keras": (2, 6_000_000),
    "ssl": (1, 25_000_000),
    "timm": (16, 6_000_000),
    "torchvision": (6, 12_000_000),
}
"""How many families of a source are sampled, and how many parameters their models may have."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    opened = open_sources(tmp_path_factory.mktemp("weights"))
    yield opened
    opened._context.tensorflow.close()


@pytest.fixture(scope="module")
def kept_child(sources: Sources) -> Iterator[None]:
    """A Keras network that stays loaded: the child process of TensorFlow then serves all walks."""
    kept = sources._context.tensorflow.load(KerasNetwork(name="MobileNet"), KerasWeights(), "cpu")
    yield
    kept.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all")
        entries = sorted(_listed(), key=lambda entry: (entry.parameter_count, entry.name))
        chosen = entries if everything else [one for s in LIBRARIES for one in _sample(s, entries)]
        metafunc.parametrize("model", [f"{one.source}/{one.name}" for one in chosen])


def _listed() -> list[ModelEntry]:
    return [one for source in LIBRARIES for one in open_sources(Path("/none")).entries(source)]


def _sample(source: str, entries: list[ModelEntry]) -> list[ModelEntry]:
    """Return the smallest models of families, spread over their sizes."""
    count, most = SAMPLED[source]
    smallest: dict[str, ModelEntry] = {}
    for entry in entries:
        if entry.source == source and 0 < entry.parameter_count <= most:
            letters = re.match(r"[A-Za-z]*", entry.name.rpartition("/")[2])
            smallest.setdefault(f"{entry.task} {letters and letters[0]}", entry)
    found = list(smallest.values())
    return found[:: max(1, -(-len(found) // count))]


# What libraries warn of their own models is theirs.
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(3600)
def test_every_module_is_what_a_plain_hook_sees(
    sources: Sources, model: str, request: pytest.FixtureRequest
) -> None:
    everything = request.config.getoption("--all")
    known = read_walks().get(model) if everything else None
    if known and known.walked == RUN:
        pytest.skip(f"walked on {known.date}, see {FILE.name}")
    source, _, name = model.partition("/")
    if source == "keras" or "Harmonization" in name:
        request.getfixturevalue("kept_child")
    try:
        walked = walk(sources, ModelKey(source, name, Random(0)))
    except WeightsMissingError as error:  # a text tower may be described on the hub alone
        pytest.skip(str(error))
    assert walked.extractable
    if everything:
        add_walk(walked)
    print(f"{model}: {walked.extractable} of {walked.modules} modules, {walked.seconds} s")


EXPORT = """
import sys, torch
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
batch, count = torch.zeros(2, 3, 16, 16), torch.export.Dim("n")
program = torch.export.export(network, (batch,), dynamic_shapes=({0: count},))
torch.export.save(program, sys.argv[1])
"""


def test_an_exported_model_gives_all_its_modules(sources: Sources, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    # In a process of its own: a server in this one has set flags that the export can't read.
    subprocess.run([sys.executable, "-c", EXPORT, str(path)], check=True, timeout=120)
    sha256 = _upload(path, sources._context.weights.uploads)
    key = sources["own"].resolve(ModelKey("own", sha256, Pretrained()))
    assert key.weights == Uploaded(sha256)
    assert walk(sources, key).walked == RUN


def _upload(path: Path, folder: Path) -> str:
    content = path.read_bytes()
    announced = Announcement(hashlib.sha256(content).hexdigest(), len(content), "net.pt2")
    with UploadStore(folder, 10**9, 10**9).begin(announced) as upload:
        upload.write(content)
        upload.finish()
    return announced.sha256


def test_a_checkpoint_of_transformers_gives_all_its_modules(sources: Sources) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = sources._context.weights.root / "transformers" / "tiny"
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    key = sources["transformers"].resolve(ModelKey("transformers", "tiny", Pretrained()))
    walked = walk(sources, key)
    assert (walked.walked, walked.input_shape) == (RUN, [3, 32, 32])
