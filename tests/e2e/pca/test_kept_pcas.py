"""PCAs kept on the server: named beside files, within a quota, listed and deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.serving import TestServer
from support.tiny_pcas import COUNT, MODEL, MODULE, MODULES, NAME, extract, fit
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    Reduction,
    errors,
    get_extractor,
    verify,
)


def test_the_library_names_the_pca_beside_its_files(
    server: TestServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    extractor = get_extractor(
        "squeezenet1_0", False, "cpu", "torchvision",
        model_parameters={"reduction": {"pca": "library"}}, server=server.address,
    )  # fmt: skip
    # Without pretrained weights, an extractor preprocesses images as the library does.
    transforms = extractor.get_transformations().for_model(MODEL)
    same: Any = {"batch_size": 8, "preprocessing": transforms}
    whole = client.fit_pca(MODEL, folder, MODULE, components=4, name="library", **same)
    batches = DataLoader(ImageDataset(folder, tmp_path, "pt"), 8, "pt")
    scores = extractor.extract_features(batches, MODULE)
    assert scores.shape == (COUNT, 4)
    out = tmp_path / "out"
    extractor.extract_features(batches, MODULE, output_dir=out, save_in_one_file=True)
    path = out / MODULE / "features.npy"
    np.testing.assert_array_equal(np.load(path), scores)
    told = json.loads(path.with_name("features.npy.json").read_text())
    assert told["pca"]["sha256"] == told["reduction"]["pca"] == whole.sha256
    assert told["pca"]["images_sha256"] == whole.images_sha256
    assert told["choices"] == {"reduction": {"pca": "library", "seed": 0}}
    assert verify(path, server=server.address).holds
    # The same name, another PCA: the interrupted job is not resumed.
    client.delete_pca("library")
    client.fit_pca(MODEL, folder, MODULE, components=3, name="library", **same)
    with pytest.raises(errors.InvalidRequestError, match=f"pca was '{whole.sha256}' and is"):
        extractor.extract_features(batches, MODULE, output_dir=out, save_in_one_file=True)
    client.delete_pca("library")


def test_a_pca_outlives_the_server_and_keeps_to_the_quota(
    start_server: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    with start_server() as server, Client(server.address) as client:
        pca = fit(client, folder)
        scores = extract(client, folder, reduction=Reduction(pca=NAME)).features
    path = tmp_path / "weights" / "pca" / f"{pca.sha256}.safetensors"
    with start_server(pca_quota=pca.size_bytes) as server, Client(server.address) as client:
        assert client.pcas() == [pca]
        again = extract(client, folder, reduction=Reduction(pca=NAME)).features
        for module in MODULES:
            np.testing.assert_array_equal(again[module], scores[module])
        with pytest.raises(errors.StorageError, match="larger --pca-quota"):
            fit(client, folder, name="another")
        assert {one.name for one in path.parent.iterdir()} == {path.name, "owners"}
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(errors.ChecksumError, match="is corrupted: delete the PCA"):
            extract(client, folder, reduction=Reduction(pca=NAME))
        assert client.delete_pca(NAME) == pca.size_bytes
        assert client.pcas() == []


def test_memory_is_bounded(start_server: Callable[..., Any], folder: Path) -> None:
    with (
        start_server(rdm_memory=100_000) as server,
        Client(server.address) as client,
        pytest.raises(errors.ExhaustedError, match="this server has 100,000 for RDMs and PCAs"),
    ):
        fit(client, folder)


def test_images_below_the_root_and_kept_ones_have_the_same_digest(
    start_server: Callable[..., Any], photos: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for photo in photos:  # large enough to be worth keeping
        Image.open(photo).convert("RGB").save(root / f"{photo.stem}.bmp")
    with start_server(image_root=root) as server, Client(server.address) as client:
        images = {
            "sent": root,
            "kept": root,
            "on the server": client.server_images(),
        }
        found = [fit(client, these, components=2, name=name) for name, these in images.items()]
    assert len({one.images_sha256 for one in found}) == 1
    assert len({one.sha256 for one in found}) == 3, "the name is part of the file"


def test_commands_fit_list_and_delete(server: TestServer, folder: Path, tmp_path: Path) -> None:
    network = ["--source", "torchvision", "--model-name", "squeezenet1_0", "--no-pretrained"]
    places = ["--module-name", MODULE, "--image-root", folder, "--resize", "64", "--crop", "64"]
    made = run(server, "fit-pca", *network, *places, "--components", "2", "--name", "by hand")
    sha256 = made.stdout.strip()
    assert len(sha256) == 64
    assert f"{MODULE}: 2 components explain" in made.stderr
    listed = run(server, "pcas").stdout.replace("\n", "")
    assert "by hand" in listed
    assert MODEL in listed
    by_pca = json.dumps({"reduction": {"pca": "by hand"}})
    chosen = ["--model-parameters", by_pca, "--out-path", tmp_path]
    run(server, "extract-features", *network, *places, *chosen)
    assert np.load(tmp_path / "features.npy").shape == (COUNT, 2)
    assert "bytes freed" in run(server, "delete-pca", "by hand").stdout


def run(server: TestServer, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("thingsvision-client"), *arguments]
    return subprocess.run(
        [*map(str, command), "--server", server.address],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "300"},
        check=True,
    )
