"""Jobs with images that can't be used: the others are complete, and repairs and removals go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.long_extractions import BATCH, CHUNK, CHUNKS, break_images, interrupted, task_of
from thingsvision_client import Client, errors, load_features, read_origin, verify
from thingsvision_client.images.folder import image_names
from thingsvision_client.jobs import extract_to_file, extract_to_folder

BAD = (0, 40, 41, 70, 99)
"""Places of broken images: the first, the last, and two in one batch."""

COUNT = 100


@pytest.fixture
def broken(images: Path) -> dict[Path, bytes]:
    """What broken images were, by path."""
    were = break_images(images, BAD)
    list(were)[1].write_bytes(b"no image")
    return were


def kept(*without: int) -> list[int]:
    return [place for place in range(COUNT) if place not in without]


def assert_rows(folder: Path, expected: dict[str, Any], originals: Path, places: list[int]) -> None:
    """Check values, names and numbers of rows in all chunks."""
    names = image_names(originals)
    for module, rows in expected.items():
        first = 0
        for start in range(0, COUNT, CHUNK):
            stop = min(start + CHUNK, COUNT)
            mine = [place for place in places if start <= place < stop]
            path = folder / module / f"features_{start}-{stop}.npy"
            np.testing.assert_array_equal(np.load(path), rows[mine])
            told = read_origin(path)
            assert [image["name"] for image in told["images"]] == [names[p] for p in mine]
            assert told["rows"] == [first, first + len(mine)]
            skipped = [one["place"] for one in told.get("skipped", [])]
            assert skipped == [p for p in range(start, stop) if p not in mine]
            first += len(mine)


def test_the_error_says_where_the_others_are_and_a_repair_goes_on(
    client: Client,
    images: Path,
    originals: Path,
    broken: dict[Path, bytes],
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # again without any change
        with pytest.raises(errors.BadImagesError, match="5 of 100 images can't") as failed:
            extract_to_folder(client, task_of(images), out, options=CHUNKS)
        assert [one.place for one in failed.value.bad] == list(BAD)
        assert f"the other images are complete in {out}" in str(failed.value)
        assert_rows(out, expected, originals, kept(*BAD))
    assert "1 of 100 images can't be used: image 40" in capsys.readouterr().err
    computed()
    for path, content in list(broken.items())[:2]:
        path.write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("features_*.npy")}
    with pytest.raises(errors.BadImagesError, match="3 of 100") as failed:
        extract_to_folder(client, task_of(images), out, options=CHUNKS)
    assert computed() == 2 * BATCH
    assert_rows(out, expected, originals, kept(*BAD[2:]))
    stay = {path for path, written in before.items() if path.stat().st_mtime_ns == written}
    assert {path.name for path in stay} == {"features_64-96.npy", "features_96-100.npy"}
    for path, content in broken.items():
        path.write_bytes(content)
    assert extract_to_folder(client, task_of(images), out, options=CHUNKS) == []
    assert_rows(out, expected, originals, kept())


def test_removed_images_leave_a_hole_wherever_they_were(
    client: Client,
    images: Path,
    originals: Path,
    broken: dict[Path, bytes],
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
) -> None:
    out = tmp_path / "out"
    interrupted(client, task_of(images), out)
    for path in broken:
        path.unlink()
    names = image_names(originals)
    (images / names[5]).unlink()  # a good image whose row is complete
    (images / names[80]).unlink()  # a good image that was not extracted yet
    computed()
    gone = extract_to_folder(client, task_of(images), out, options=CHUNKS)
    assert computed() == COUNT - 2 * CHUNK
    assert [one.place for one in gone] == sorted((*BAD, 5, 80))
    assert {one.reason for one in gone if one.place in (5, 80)} == {"was removed"}
    assert_rows(out, expected, originals, kept(*BAD, 5, 80))
    extract_to_folder(client, task_of(images), out, options=CHUNKS)
    (images / names[5]).write_bytes((originals / names[5]).read_bytes())
    extract_to_folder(client, task_of(images), out, options=CHUNKS)
    assert_rows(out, expected, originals, kept(*BAD, 80))


def test_skipped_images_are_listed_and_files_are_joined_without_them(
    client: Client,
    images: Path,
    broken: dict[Path, bytes],
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    out, joined = tmp_path / "out", replace(CHUNKS, in_one_file=True)
    for _ in range(2):
        extract_to_folder(client, task_of(images), out, options=joined, on_error="skip")
        lines = (out / "skipped.txt").read_text().splitlines()
        names = image_names(images)
        assert [line.split("\t")[:2] for line in lines] == [[str(p), names[p]] for p in BAD]
        for module, rows in expected.items():
            path = out / module / "features.npy"
            np.testing.assert_array_equal(np.load(path), rows[kept(*BAD)])
            assert [one["place"] for one in read_origin(path)["skipped"]] == list(BAD)
    for path, content in broken.items():
        path.write_bytes(content)
    extract_to_folder(client, task_of(images), out, options=joined)
    for module, rows in expected.items():
        np.testing.assert_array_equal(np.load(out / module / "features.npy"), rows)
    assert not (out / "skipped.txt").exists()


def test_one_file(
    client: Client,
    images: Path,
    broken: dict[Path, bytes],
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
    server: Any,
) -> None:
    task, out = task_of(images), tmp_path / "out"
    with pytest.raises(errors.BadImagesError, match=r"complete in .*features.npz.parts.*on_error"):
        extract_to_file(client, task, out, file_format="npz")
    assert not (out / "features.npz").exists()
    first = next(iter(broken))
    first.write_bytes(broken[first])
    computed()
    path = extract_to_file(client, task, out, file_format="npz", on_error="skip")
    assert computed() == BATCH
    with np.load(path) as found:
        for module, rows in expected.items():
            np.testing.assert_array_equal(found[module], rows[kept(*BAD[1:])])
    told = read_origin(path)
    assert (told["image_count"], len(told["images"])) == (COUNT, COUNT - 4)
    found = verify(path, server=server.address)
    assert found.holds, list(found.lines())
    computed()
    extract_to_file(client, task, out, file_format="npz", on_error="skip")
    with pytest.raises(errors.BadImagesError, match=r"complete in .*features.npz: repair"):
        extract_to_file(client, task, out, file_format="npz")
    assert computed() == 0
    list(broken)[1].unlink()
    extract_to_file(client, task_of(images), out, file_format="npz", on_error="skip")
    assert computed() == 0
    for bad, content in broken.items():
        bad.write_bytes(content)
    extract_to_file(client, task, out, file_format="npz")
    with np.load(path) as complete:
        for module, rows in expected.items():
            np.testing.assert_array_equal(complete[module], rows)


def test_a_chunk_without_any_row(
    client: Client, images: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    names = image_names(images)
    bad = range(CHUNK, 2 * CHUNK)
    for place in bad:
        (images / names[place]).unlink()
        (images / names[place]).write_bytes(b"")
    out = tmp_path / "out"
    extract_to_folder(client, task_of(images), out, options=CHUNKS, on_error="skip")
    paths = ["features_0-32.npy", "features_64-96.npy", "features_96-100.npy"]
    for module, rows in expected.items():
        assert {path.name for path in (out / module).glob("*.npy")} == set(paths)
        parts = [np.load(out / module / name) for name in paths]
        np.testing.assert_array_equal(np.concatenate(parts), rows[kept(*bad)])
    found = load_features(out)
    for module, rows in expected.items():
        np.testing.assert_array_equal(found.features[module], rows[kept(*bad)])
    assert found.names == [names[place] for place in kept(*bad)]
    joined = replace(CHUNKS, in_one_file=True)
    content = (images / names[0]).read_bytes()
    (images / names[bad[0]]).write_bytes(content)
    extract_to_folder(client, task_of(images), out, options=joined, on_error="skip")
    for module, rows in expected.items():
        found = np.load(out / module / "features.npy")
        assert len(found) == COUNT - CHUNK + 1
        np.testing.assert_allclose(found[CHUNK], rows[0], atol=1e-5)
        np.testing.assert_array_equal(np.delete(found, CHUNK, axis=0), rows[kept(*bad)])
