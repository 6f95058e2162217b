"""Images that can't be used: the others keep their bits, and all bad images are listed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.tiny_photos import write_tiny_photos
from thingsvision_client import (
    Client,
    Extraction,
    compute_rdm,
    get_extractor,
    load_batches,
    plot_rdms,
    read_origin,
    rsa,
    save_features,
    verify,
)
from thingsvision_client.cli import app
from thingsvision_client.errors import BadImagesError, ImageError
from thingsvision_client.images.folder import image_names

MODEL = "torchvision/squeezenet1_1@random:0"
MODULES = ["features.2", "features.5"]
COUNT, BATCH = 21, 8
EMPTY, TEXT, CUT, LAST = 3, 9, 12, 20
"""Places of an empty file, of a text, and of two photographs that were cut off."""


def spoil(path: Path, place: int) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes({EMPTY: b"", TEXT: b"no image"}.get(place, content[: len(content) // 2]))


@pytest.fixture(scope="module")
def good(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_tiny_photos(folder, photos, COUNT)
    return folder


@pytest.fixture
def spoiled(good: Path, tmp_path: Path) -> Path:
    """The same photographs, four of them broken."""
    folder = Path(shutil.copytree(good, tmp_path / "images", copy_function=os.link))
    for place in (EMPTY, TEXT, CUT, LAST):
        spoil(folder / image_names(folder)[place], place)
    return folder


@pytest.fixture(scope="module")
def undisturbed(server: Any, good: Path) -> Extraction:
    with Client(server.address) as client:
        return client.extract(MODEL, good, MODULES, batch_size=BATCH)


KEPT = [place for place in range(COUNT) if place not in (EMPTY, TEXT, CUT, LAST)]


def assert_kept(found: Extraction, undisturbed: Extraction, kept: list[int]) -> None:
    assert found.images == [undisturbed.images[place] for place in kept]
    for module, rows in undisturbed.features.items():
        np.testing.assert_array_equal(found.features[module], rows[kept])


def test_the_error_at_the_end_has_the_other_rows_bit_for_bit(
    client: Client,
    spoiled: Path,
    undisturbed: Extraction,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BadImagesError) as caught:
        client.extract(MODEL, spoiled, MODULES, batch_size=BATCH)
    assert re.search(r"2 of 21 images .* The call goes on", capsys.readouterr().err)
    names = image_names(spoiled)
    bad = {one.place: one for one in caught.value.bad}
    assert sorted(bad) == [EMPTY, TEXT, CUT, LAST]
    assert all(one.name == names[place] for place, one in bad.items())
    assert bad[EMPTY].reason == "is empty (0 bytes)"
    assert bad[TEXT].reason.startswith("is not a JPEG, PNG")
    assert bad[CUT].reason.startswith("is broken")
    text = str(caught.value)
    assert "4 of 21 images can't be used" in text
    assert all(f"image {place} ({names[place]!r})" in text for place in bad)
    assert caught.value.subject == names[EMPTY]
    assert_kept(caught.value.result, undisturbed, KEPT)


def test_skipped_images_are_told_and_leave_the_others_their_bits(
    client: Client, spoiled: Path, undisturbed: Extraction
) -> None:
    found = client.extract(MODEL, spoiled, MODULES, batch_size=BATCH, on_error="skip")
    assert_kept(found, undisturbed, KEPT)
    assert [one.place for one in found.skipped] == [EMPTY, TEXT, CUT, LAST]
    assert [one["place"] for one in found.to_dict()["skipped"]] == [EMPTY, TEXT, CUT, LAST]
    names = image_names(spoiled)
    lists = {
        "files": [spoiled / name for name in names],
        "bytes": [(name, (spoiled / name).read_bytes()) for name in names],
        "generator": ((name, (spoiled / name).read_bytes()) for name in names),
    }
    for images in lists.values():
        found = client.extract(MODEL, images, MODULES, batch_size=BATCH, on_error="skip")
        assert [one.place for one in found.skipped] == [EMPTY, TEXT, CUT, LAST]
        for module, rows in undisturbed.features.items():
            np.testing.assert_array_equal(found.features[module], rows[KEPT])


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": BATCH, "deterministic": False},
        {"deterministic": True},
        {"batch_size": 4, "compiled": True},
        {"batch_size": COUNT},
        {},
    ],
    ids=str,
)
def test_every_kind_of_batch_has_holes(
    client: Client, good: Path, spoiled: Path, options: dict[str, Any]
) -> None:
    expected = client.extract(MODEL, good, MODULES, **options).features
    found = client.extract(MODEL, spoiled, MODULES, on_error="skip", **options).features
    for module, rows in expected.items():
        if options:
            np.testing.assert_array_equal(found[module], rows[KEPT])
        else:  # batches as images come
            np.testing.assert_allclose(found[module], rows[KEPT], rtol=0, atol=1e-4)


def test_whole_batches_of_bad_images(client: Client, good: Path, undisturbed: Extraction) -> None:
    names = image_names(good)
    images = [(name, (good / name).read_bytes()) for name in names]
    bad = range(BATCH, 2 * BATCH)
    for place in bad:
        images[place] = (names[place], images[place][1][:-2000])
    with pytest.raises(BadImagesError, match="8 of 21") as caught:
        client.extract(MODEL, images, MODULES, batch_size=BATCH)
    assert_kept(caught.value.result, undisturbed, [p for p in range(COUNT) if p not in bad])
    with pytest.raises(BadImagesError, match="no others") as caught:
        client.extract(MODEL, [images[place] for place in bad], MODULES, on_error="skip")
    assert (len(caught.value.bad), caught.value.result) == (BATCH, None)


def test_a_stream_yields_the_others_and_says_where_they_belong(
    client: Client, spoiled: Path, undisturbed: Extraction
) -> None:
    stream = client.stream(MODEL, spoiled, MODULES, batch_size=BATCH)
    places, rows = [], []

    def read() -> None:
        for _, features in stream:
            places.extend(stream.places)
            rows.append(features[MODULES[1]].copy())

    with pytest.raises(BadImagesError, match="came before"):
        read()
    assert places == KEPT
    np.testing.assert_array_equal(np.concatenate(rows), undisturbed.features[MODULES[1]][KEPT])
    assert stream.place_count == COUNT


def test_rdms_and_pcas_stop_at_the_first_unless_told_to_skip(
    client: Client, good: Path, spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadImagesError, match=r"2 of 21 images.*on_error='skip'") as caught:
        client.rdm(MODEL, spoiled, MODULES, batch_size=BATCH)
    assert caught.value.result is None
    names = image_names(spoiled)
    later = [(name, (spoiled / name).read_bytes()) for name in names[CUT - 1 :]]
    with pytest.raises(ImageError, match=rf"image 1 \('{names[CUT]}'\) is broken"):
        client.rdm(MODEL, later, MODULES, batch_size=BATCH)
    with pytest.raises(ImageError, match=rf"image 1 \('{names[CUT]}'\) is broken"):
        client.fit_pca(MODEL, later, MODULES, components=2)
    whole = client.rdm(MODEL, good, MODULES, batch_size=BATCH)
    found = client.rdm(MODEL, spoiled, MODULES, batch_size=BATCH, on_error="skip")
    assert re.search("4 of 21 .* 17 rows", capsys.readouterr().err)
    assert [one.place for one in found.skipped] == [EMPTY, TEXT, CUT, LAST]
    for module, rdm in whole.rdms.items():
        np.testing.assert_array_equal(found.rdms[module], rdm[np.ix_(KEPT, KEPT)])
    pca = client.fit_pca(MODEL, spoiled, MODULES, components=2, on_error="skip")
    kept = [(names[place], (good / names[place]).read_bytes()) for place in KEPT]
    assert pca.image_count == len(KEPT)
    assert pca.images_sha256 == client.fit_pca(MODEL, kept, MODULES, components=2).images_sha256


def test_the_library_leaves_them_out_of_names_and_targets(
    server: Any, good: Path, spoiled: Path, tmp_path: Path
) -> None:
    names, out = image_names(spoiled), tmp_path / "out"
    extractor = get_extractor(
        "squeezenet1_1", pretrained=False, device=None, source="torchvision", server=server.address
    )
    usual = {"module_name": MODULES[1], "flatten_acts": True}
    loader = load_batches(spoiled, out, "pt", BATCH)
    with pytest.raises(BadImagesError, match="4 of 21") as caught:
        extractor.extract_features(loader, **usual)
    rows = caught.value.result
    whole = extractor.extract_features(load_batches(good, tmp_path / "good", "pt", BATCH), **usual)
    np.testing.assert_array_equal(rows, whole[KEPT])
    assert rows.shape[0] == len(KEPT)
    assert len(loader.dataset.names) == COUNT
    skipping = extractor.extract_features(loader, **usual, on_error="skip")
    np.testing.assert_array_equal(skipping, rows)
    kept = [names[place] for place in KEPT]
    assert loader.dataset.names == kept
    assert loader.dataset.targets.ravel().tolist() == list(range(len(KEPT)))
    assert (out / "file_names.txt").read_text().splitlines() == kept
    lines = [line.split("\t") for line in (out / "skipped.txt").read_text().splitlines()]
    assert [int(line[0]) for line in lines] == [EMPTY, TEXT, CUT, LAST]
    assert lines[0][1:] == [names[EMPTY], "is empty (0 bytes)"]
    assert [one.place for one in loader.dataset.skipped] == [EMPTY, TEXT, CUT, LAST]
    # Batches are cut as before, whoever iterates them.
    np.testing.assert_array_equal(extractor.extract_features(loader, **usual), rows)
    parts = [extractor.extract_batch(batch, **usual) for batch in loader]
    assert [len(part) for part in parts] == [7, 6, 4]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    save_features(skipping, out, "npy")
    told = read_origin(out / "features.npy")
    assert [one["place"] for one in told["skipped"]] == [EMPTY, TEXT, CUT, LAST]
    found = verify(out / "features.npy", server=server.address)
    assert found.holds, list(found.lines())
    assert all(check.is_equal for check in found.modules)
    again = load_batches(spoiled, out, "pt", BATCH)
    folder = tmp_path / "folder"
    extractor.extract_features(
        again, **usual, on_error="skip", output_dir=folder, save_in_one_file=True
    )
    np.testing.assert_array_equal(np.load(folder / MODULES[1] / "features.npy"), rows)
    assert again.dataset.names == kept
    assert (folder / "skipped.txt").exists()


def test_a_figure_shows_the_images_that_have_rows(
    server: Any, spoiled: Path, undisturbed: Extraction, tmp_path: Path
) -> None:
    extractor = get_extractor(
        "squeezenet1_1", pretrained=False, device=None, source="torchvision", server=server.address
    )
    batches = load_batches(str(spoiled), str(tmp_path), extractor.get_backend(), BATCH)
    features = extractor.extract_features(
        batches, "features.2", flatten_acts=True, on_error="skip", progress=False
    )
    path = tmp_path / "rdm.png"
    rdm = compute_rdm(features)
    plot_rdms(path, {"features.2": rdm}, thumbnails=spoiled)
    told = read_origin(path)
    assert told["names"] == [undisturbed.images[place] for place in KEPT]
    source = told["sources"]["features.2"]
    assert (source["model"], source["module"]) == (MODEL, "features.2")
    assert source["metric"] == "correlation"
    save_features(rdm, tmp_path, "npy")
    told = read_origin(tmp_path / "features.npy")
    assert (told["model"], told["metric"]) == (MODEL, "correlation")
    assert len(told["images"]) == len(rdm)


def test_the_command_line(server: Any, spoiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    usual = [
        "--server", server.address, "--model-name", "squeezenet1_1", "--source", "torchvision",
        "--no-pretrained", "--image-root", str(spoiled), "--module-name", MODULES[1],
        "--batch-size", str(BATCH), "--out-path", str(out),
    ]  # fmt: skip
    runner = CliRunner()
    failed = runner.invoke(app, ["extract-features", *usual])
    assert isinstance(failed.exception, BadImagesError)
    assert "4 of 21 images can't be used" in str(failed.exception)
    assert not (out / "features.npy").exists()
    done = runner.invoke(app, ["extract-features", *usual, "--on-error", "skip"])
    assert done.exit_code == 0, done.output
    names = (out / "file_names.txt").read_text().splitlines()
    assert np.load(out / "features.npy").shape[0] == len(names) == len(KEPT)
    assert len((out / "skipped.txt").read_text().splitlines()) == 4
    stopped = runner.invoke(app, ["compute-rdm", *usual])
    assert "2 of 21 images can't be used" in str(stopped.exception)
    done = runner.invoke(app, ["compute-rdm", *usual, "--on-error", "skip"])
    assert done.exit_code == 0, done.output
    assert np.load(out / "rdm.npy").shape == (len(KEPT), len(KEPT))
    assert (out / "file_names.txt").read_text().splitlines() == names
    wrong = runner.invoke(app, ["fit-pca", *usual[:-2], "--components", "2", "--on-error", "no"])
    assert "--on-error must be raise or skip, got 'no'" in str(wrong.exception)


def test_rsa_skips_images_of_named_references(client: Client, good: Path, spoiled: Path) -> None:
    names = image_names(good)
    brain = client.rdm(MODEL, good, MODULES[0], batch_size=BATCH).rdms[MODULES[0]]
    usual: dict[str, Any] = {"bootstrap": 0, "client": client, "batch_size": BATCH}
    with pytest.raises(BadImagesError, match="2 of 21"):
        rsa(spoiled, brain, MODEL, MODULES, **usual)
    found = rsa(spoiled, brain, MODEL, MODULES, reference_images=names, on_error="skip", **usual)
    kept = [(names[place], (good / names[place]).read_bytes()) for place in KEPT]
    fewer = rsa(kept, brain[np.ix_(KEPT, KEPT)], MODEL, MODULES, **usual)
    for one, other in zip(found.scores, fewer.scores, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)


def test_choices_are_checked(client: Client, good: Path) -> None:
    with pytest.raises(ValueError, match="`on_error` must be one of raise, skip, got 'ignore'"):
        client.extract(MODEL, good, MODULES, on_error="ignore")
