"""The parts of a job, each by itself: chunks, the record, differences, the lock, the sample."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thingsvision_client import errors
from thingsvision_client.formats import Column
from thingsvision_client.images.image import ImageContent, SentImage
from thingsvision_client.jobs import FolderOptions
from thingsvision_client.jobs.chunks import CHUNK_BYTES, CHUNK_IMAGES, chunk_rows, default_step
from thingsvision_client.jobs.lock import hold_lock
from thingsvision_client.jobs.notices import storage_errors
from thingsvision_client.jobs.place import in_folder, neighbours
from thingsvision_client.jobs.record import Chunk, Record, read_record
from thingsvision_client.origins import Fingerprint, differences, fingerprint_of
from thingsvision_client.verification.sampling import Rows
from thingsvision_client.verification.tally import DifferenceTally
from thingsvision_client.verification.verdict import ModuleCheck, Verification


def batches(sizes: list[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    row = 0
    for size in sizes:
        rows = np.arange(row, row + size, dtype=np.float32)
        yield list(range(row, row + size)), {"a": rows[:, None], "b": -rows.reshape(-1, 1, 1)}
        row += size


@pytest.mark.parametrize("sizes", [[4, 4, 2], [1] * 10, [10], [3, 5, 2]])
def test_rows_come_in_chunks_whatever_batches_they_came_in(sizes: list[int]) -> None:
    columns = {"a": Column("a", (1,), "float32"), "b": Column("b", (1, 1), "float32")}
    chunks = list(chunk_rows(batches(sizes), columns, 4))
    assert [chunk["a"].ravel().tolist() for chunk in chunks] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert all(np.array_equal(chunk["b"].ravel(), -chunk["a"].ravel()) for chunk in chunks)


def test_one_chunk_is_in_memory_at_a_time() -> None:
    columns = {"a": Column("a", (1,), "float32"), "b": Column("b", (1, 1), "float32")}
    seen: list[Any] = []
    for chunk in chunk_rows(batches([3] * 9), columns, 5):
        assert [array() for array in seen] == [None] * len(seen)
        seen += [weakref.ref(array) for array in chunk.values()]
        del chunk
    assert len(seen) == 2 * 6


def test_a_chunk_has_a_size_that_memory_and_patience_allow() -> None:
    def step(batch_size: int, *shapes: tuple[int, ...]) -> int:
        return default_step([Column("a", shape, "float32") for shape in shapes], batch_size)

    wide = step(3, (1024, 1024), (1024,))
    assert 0.8 * CHUNK_BYTES < wide * 3 * 4 * (1024 * 1024 + 1024) <= CHUNK_BYTES
    assert step(32, (10,)) * 32 == CHUNK_IMAGES
    assert step(32, (1 << 30,)) == 1
    assert step(5000, ()) == 1


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Make the record of a job with two chunks."""
    record = Record(tmp_path / "job", {"batch_size": 2}, {"model": "m"}, ["a", "ü", "c", "d"])
    record.save()
    record.add(Chunk(0, 2, {"fc": 10}, 2), [Fingerprint("a", "1"), Fingerprint("ü", "2")])
    record.add(Chunk(2, 3, {"fc": 5}, 1), [Fingerprint("c", "3")])
    return record


def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    read = read_record(record.path)
    assert read == record
    assert (read.done, read.ended, read.whole) == (3, False, None)
    assert [(image.name, image.sha256) for image in read.images()] == [
        ("a", "1"),
        ("ü", "2"),
        ("c", "3"),
    ]
    record.end()
    record.join({"fc": 15})
    read = read_record(record.path)
    assert read is not None
    assert (read.ended, read.whole) == (True, {"fc": 15})


@pytest.mark.parametrize("torn", [b'{"chunk": [3, 4], "siz', b'{"chunk": [3, 4]\n', b"\0\0\0\n"])
def test_a_line_that_was_cut_off_counts_as_never_written(record: Record, torn: bytes) -> None:
    with record.path.open("ab") as file:
        file.write(torn)
    read = read_record(record.path)
    assert read is not None
    assert read.done == 3
    read.add(Chunk(3, 4, {"fc": 5}, 1), [Fingerprint("d", "4")])
    again = read_record(record.path)
    assert again is not None
    assert [image.name for image in again.images()] == ["a", "ü", "c", "d"]


def test_a_record_forgets_later_chunks(record: Record) -> None:
    record.end()
    record.keep(1)
    read = read_record(record.path)
    assert read == record
    assert read.done == 2
    assert not read.ended
    record.keep(0)
    assert record.done == 0
    assert list(record.images()) == []


def test_files_that_are_not_records_are_refused(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none") is None
    for content in ("", "no JSON\n", '{"format": 99}\n', "[]\n"):
        (tmp_path / "job").write_text(content)
        with pytest.raises(errors.InvalidRequestError, match="not a record"):
            read_record(tmp_path / "job")


def test_differences_name_both_values() -> None:
    old = {"batch_size": 16, "preprocessing": {"resize": 64, "crop": None}, "modules": ["a"]}
    new = {"batch_size": 16, "preprocessing": {"resize": 32, "crop": None}, "modules": ["a", "b"]}
    assert differences.of_values(old, old) == []
    assert differences.of_values(old, new) == [
        "preprocessing.resize was 64 and is 32 now",
        "modules was ['a'] and is ['a', 'b'] now",
    ]
    assert differences.of_values({"p": None}, {"p": {"crop": False}}) == [
        "p was None and is {'crop': False} now"
    ]
    later = {"precision": "float32", "compiled": False}
    assert differences.of_values({}, later) == []  # written before there were these options
    assert differences.of_values({}, {**later, "compiled": True}) == [
        "compiled was False and is True now"
    ]
    assert differences.of_facts({"device": "cuda:0"}, {"device": "cuda:1"}) == []
    assert differences.of_facts({"device": "cuda:0"}, {"device": "cpu"}) == [
        "device was 'cuda' and is 'cpu' now"
    ]
    assert differences.of_names(["a", "b"], ["a", "c"]) == [
        "some images are others ('b' is gone, 'c' is new)"
    ]
    assert differences.of_names(["a", "b"], ["b", "a"]) == ["image 0 was 'a' and is 'b' now"]
    assert differences.of_names(["a", "b"], ["b"]) == [
        "there were 2 images and are 1 now ('a' is gone)"
    ]
    assert differences.of_names(None, ["b"]) == []


def images(*contents: tuple[str, bytes]) -> Iterator[SentImage]:
    return (SentImage(name, partial(ImageContent, content)) for name, content in contents)


def test_images_are_compared_by_name_and_content() -> None:
    queue = images(("a", b"1"), ("b", b"2"), ("c", b"3"))
    recorded = [fingerprint_of(image) for image in images(("a", b"1"), ("b", b"2"))]
    read: list[int] = []
    assert differences.of_images(queue, recorded, read.append) == []
    assert read == [1, 2]
    assert next(queue).name == "c", "what follows is to be sent"
    (changed,) = differences.of_images(images(("a", b"1"), ("b", b"X")), recorded, read.append)
    assert changed.startswith(f"image 1, 'b', had SHA-256 {recorded[1].sha256}")
    (other,) = differences.of_images(images(("a", b"1"), ("B", b"2")), recorded, read.append)
    assert other == "image 1 was 'b' and is 'B' now"
    (fewer,) = differences.of_images(images(("a", b"1")), recorded, read.append)
    assert fewer == "image 1 was 'b', and there are only 1 images now"


HOLDER = """
import sys, time
from pathlib import Path
from thingsvision_client.jobs.lock import hold_lock
with hold_lock(Path(sys.argv[1]), Path("features")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_by_one_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        held = pytest.raises(errors.InvalidRequestError, match=f"by process {holder.pid} on")
        with held, hold_lock(path, tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with hold_lock(path, tmp_path):
        assert f"process {os.getpid()} on" in path.read_text()
        with pytest.raises(errors.InvalidRequestError), hold_lock(path, tmp_path):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_lock_is_waited_for_as_long_as_patience_lasts(tmp_path: Path) -> None:
    path, entered, released = tmp_path / ".lock", threading.Event(), threading.Event()

    def hold() -> None:
        with hold_lock(path, tmp_path):
            entered.set()
            released.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(60)
    with pytest.raises(errors.InvalidRequestError), hold_lock(path, tmp_path, patience_s=0.01):
        pass
    threading.Timer(0.3, released.set).start()
    with hold_lock(path, tmp_path, patience_s=60):
        assert released.is_set()
    holder.join()


def test_a_place_has_names_for_all_files(tmp_path: Path) -> None:
    place = in_folder(tmp_path, "_a", "npy", ["layer/1", ""])
    assert place.chunk("layer/1", 0, 64) == tmp_path / "layer%2F1" / "features_a_0-64.npy"
    assert place.whole("") == tmp_path / "(model)" / "features_a.npy"
    left = [".features_a_0-64.npy.1f.npy", ".features_a.npy.1f.npy", ".features_a_0-64.npy.json.1f"]
    others = ["features_a_0-64.npy", ".features_0-64.npy.1f.npy", ".features_a_b_0-64.npy.1f.npy"]
    (tmp_path / "layer%2F1").mkdir()
    for name in left + others:
        (tmp_path / "layer%2F1" / name).touch()
    assert sorted(path.name for path in place.temporary_files(["layer/1"])) == sorted(left)
    other = in_folder(tmp_path, "_a", "npy", ["fc"])
    for path in (place.record, other.record, in_folder(tmp_path, "", "npy", ["fc"]).record):
        path.touch()
    assert list(neighbours(place)) == [other.record]
    with pytest.raises(errors.InvalidRequestError, match="suffix"):
        in_folder(tmp_path, "/../x", "npy", ["fc"])


def test_options_of_a_folder_are_checked() -> None:
    with pytest.raises(errors.InvalidRequestError, match="got 0"):
        FolderOptions(step_size=0)
    with pytest.raises(errors.InvalidRequestError, match="ndarray, tensor"):
        FolderOptions(output_type="list")


def test_errors_of_the_disk_name_the_path(tmp_path: Path) -> None:
    with (
        pytest.raises(errors.StorageError, match=r"features\.npy: No such file"),
        storage_errors(tmp_path / "features.npy"),
    ):
        (tmp_path / "no" / "folder").touch()


def test_a_sample_is_of_whole_batches() -> None:
    rows = Rows(0, 10, 4, 10)
    assert rows.sample(10, 0, set()) == list(range(10)), "the last batch is short"
    assert rows.sample(10, 0, {5}) == [0, 1, 2, 3, 8, 9]
    assert rows.sample(1, 3, set()) == rows.sample(1, 3, set())
    drawn = {tuple(rows.sample(1, seed, set())) for seed in range(50)}
    assert drawn == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)}
    part = Rows(2, 10, 4, 12)
    assert part.sample(9, 0, set()) == [4, 5, 6, 7], "its other batches are not whole"
    assert Rows(5, 7, 4, 12).sample(9, 0, set()) == [5, 6], "it has no whole one"
    assert Rows(0, 3, 0, 3).sample(2, 0, {1}) == [0, 2]
    assert rows.sample(1, 0, set(range(10))) == []


def test_a_tally_tells_equal_bits_from_rounding() -> None:
    rows = np.array([[1.0, -4.0], [np.nan, np.inf]], np.float32)
    equal = DifferenceTally()
    equal.add(rows.astype(np.float64).reshape(2, 2, 1), rows)
    assert (equal.is_equal, equal.row_count, equal.largest_difference) == (True, 2, 0.0)
    near = DifferenceTally()
    near.add(rows, rows)
    near.add(rows + np.float32([[0, 2e-6], [0, 0]]), rows)
    assert not near.is_equal
    assert near.largest_difference == pytest.approx(1.9e-6 / 4, rel=0.01)
    assert ModuleCheck("a", "a", 4, False, near.largest_difference).verdict == "rounding"
    for wrong in (rows + 1, np.nan_to_num(rows), rows[:, :1]):
        far = DifferenceTally()
        far.add(wrong, rows)
        check = ModuleCheck("a", "a", 2, far.is_equal, far.largest_difference)
        assert check.verdict == "different"


def test_a_file_holds_where_nothing_is_wrong() -> None:
    path, good = Path("f.npy"), ModuleCheck("features", "fc", 8, True, 0.0)
    assert Verification(path, (good,), notes=("framework was 'a' and is 'b' now",)).holds
    assert not Verification(path, (good,), faults=("an image changed",)).holds
    assert not Verification(path, (good, ModuleCheck("b", "b", 0, True, 0.0))).holds
    assert list(Verification(path, (good,)).lines()) == [
        "fc: equal bit for bit (8 rows recomputed)",
        "f.npy passes the check.",
    ]
