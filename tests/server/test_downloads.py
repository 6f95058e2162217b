"""Weights that can't be downloaded: said in time, with where to put them and what else to do."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from support.dead_ends import closed_port, filtered_port, silent_port
from support.http_answers import http
from thingsvision_server.errors import UnknownModelError, WeightsMissingError
from thingsvision_server.sources.base import ModelKey, Pretrained
from thingsvision_server.sources.hugging_face.folders import ModelFolders
from thingsvision_server.sources.weights import downloads
from thingsvision_server.sources.weights.folder import PublishedWeights, WeightsFolder

KEY = ModelKey("timm", "resnet18", Pretrained("a1_in1k"))
MOST_SECONDS = 20


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch, no_caches_of_the_user: None) -> None:
    """What the environment of this machine says about proxies must not decide."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def failure(weights: WeightsFolder, published: PublishedWeights) -> str:
    """Return what the server says, which must be said in time."""
    began = time.monotonic()
    with pytest.raises(WeightsMissingError) as caught:
        weights.locate(KEY, published)
    assert time.monotonic() - began < MOST_SECONDS
    return str(caught.value)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFolder:
    monkeypatch.setattr(downloads, "ANSWER_SECONDS", 1.0)
    return WeightsFolder(tmp_path, allow_download=True)


def test_the_time_for_an_answer_is_within_the_promise() -> None:
    assert downloads.ANSWER_SECONDS <= MOST_SECONDS - 5


@pytest.mark.parametrize("dead", [closed_port, silent_port, filtered_port])
def test_a_host_that_does_not_answer_is_said_with_paths_and_three_remedies(
    weights: WeightsFolder, monkeypatch: pytest.MonkeyPatch, dead: Any
) -> None:
    root = weights.root
    with dead() as port:
        url = f"http://127.0.0.1:{port}/net-01234567.pth"
        sentence = failure(weights, PublishedWeights(url))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        hub = failure(weights, PublishedWeights("", "org/net", ("model.safetensors",)))
        with pytest.raises(UnknownModelError, match=r"the hub can't be reached: 127\.0\.0\.1 does"):
            ModelFolders(weights).find("org/net")
    for part in (
        "the weights of timm/resnet18@a1_in1k are not on this server",
        f"{url} could not be downloaded: 127.0.0.1 does not answer",
        f"Looked for {root}/timm/resnet18.a1_in1k.safetensors (or .pth, .pt, .bin)",
        f"{root}/torch/hub/checkpoints/net-01234567.pth",
        "Put the file there, let the server reach 127.0.0.1",
        "https_proxy",
        "or upload",
    ):
        assert part in sentence
    assert "https://huggingface.co/org/net could not be downloaded: the hub can't be reached" in hub
    assert f"org/net/model.safetensors in {root}/huggingface/hub" in hub


def test_a_host_without_an_address_is_one_that_does_not_answer(weights: WeightsFolder) -> None:
    sentence = failure(weights, PublishedWeights("http://no-such-host.invalid/net.pth"))
    assert "no-such-host.invalid does not answer" in sentence


def test_without_downloads_the_text_has_the_same_paths_and_the_other_remedy(
    tmp_path: Path,
) -> None:
    weights = WeightsFolder(tmp_path, allow_download=False)
    url = "https://example.org/net.pth"
    sentence = failure(weights, PublishedWeights(url))
    assert "are not on this server, and it does not download" in sentence
    assert f"{tmp_path}/torch/hub/checkpoints/net.pth" in sentence
    assert f"Put the file ({url}) there, start the server with --allow-download, or" in sentence
    assert "they are not published" in failure(weights, PublishedWeights())


def test_an_answer_that_is_not_the_file_is_no_fault_of_the_network(weights: WeightsFolder) -> None:
    with http((404, b"")) as address:
        sentence = failure(weights, PublishedWeights(f"{address}/net.pth"))
    assert "127.0.0.1 answers with HTTP status 404" in sentence
    assert "https_proxy" not in sentence
    with http((503, b"")) as address:
        assert "https_proxy" in failure(weights, PublishedWeights(f"{address}/net.pth"))


def test_a_file_is_written_whole_or_not_at_all(weights: WeightsFolder) -> None:
    body = bytes(range(256)) * 100
    sha256, md5 = hashlib.sha256(body).hexdigest(), hashlib.md5(body).hexdigest()
    folder = weights.root / "torch/hub/checkpoints"
    with http((200, body)) as address:
        for name, digest in ((f"a-{sha256[:8]}.pth", ""), ("b.pth", md5), ("c.pth", sha256)):
            published = PublishedWeights(f"{address}/{name}", digest=digest)
            assert weights.locate(KEY, published).read_bytes() == body
            assert weights.locate(KEY, published) == folder / name
        wrong = failure(weights, PublishedWeights(f"{address}/net-01234567.pth"))
        assert "its sha256 must begin with 01234567, got" in wrong
    with http((200, body), cut=100) as address:
        assert "sent nothing more" in failure(weights, PublishedWeights(f"{address}/cut.pth"))
    with http((200, body), cut=100, stall=True) as address:
        assert "sent nothing more" in failure(weights, PublishedWeights(f"{address}/stall.pth"))
    assert sorted(file.name[:2] for file in folder.iterdir()) == ["a-", "b.", "c."]
