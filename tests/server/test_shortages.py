"""What the system has run out of is told from any error, and never blamed on a request."""

from __future__ import annotations

import errno
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.dead_ends import closed_port
from support.http_answers import http
from thingsvision_server.errors import (
    ExhaustedError,
    ImageError,
    InvalidWeightsError,
    StorageError,
    ThingsvisionError,
    UnavailableError,
    WeightsMissingError,
)
from thingsvision_server.shared_folder.unfinished import (
    remove_unfinished,
    unfinished_folder,
    write_file,
)
from thingsvision_server.shortages import shortage_behind
from thingsvision_server.sources.base import ModelKey, Pretrained
from thingsvision_server.sources.weights.folder import PublishedWeights, WeightsFolder
from thingsvision_server.threads import check_threads, start_threads

KINDS: list[tuple[BaseException, type[ThingsvisionError]]] = [
    (OSError(errno.ENOSPC, "No space left on device", "/disk/file"), StorageError),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageError),
    (OSError(errno.EROFS, "Read-only file system", "/disk/file"), StorageError),
    (OSError(errno.EIO, "Input/output error", "/disk/file"), StorageError),
    (OSError(errno.EMFILE, "Too many open files"), UnavailableError),
    (OSError(errno.ENFILE, "Too many open files in system"), UnavailableError),
    (RuntimeError("unable to open file </w.pt>: Too many open files (24)"), UnavailableError),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), UnavailableError),
    (RuntimeError("can't start new thread"), UnavailableError),
    (RuntimeError("I/O error: No space left on device (os error 28)"), StorageError),
    (MemoryError(), ExhaustedError),
]

OTHERS = [
    FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
    PermissionError(errno.EACCES, "Permission denied", "x"),
    ValueError("a network of the user"),
    OSError("image file is truncated"),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda one: str(one)[:40])
def test_a_shortage_is_known_from_the_error_of_any_library(
    error: BaseException, kind: type[ThingsvisionError]
) -> None:
    assert type(shortage_behind(error)) is kind


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_no_shortage(error: BaseException) -> None:
    assert shortage_behind(error) is None


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except type(error) as raised:
        return raised


def test_a_shortage_is_found_behind_an_error_that_blames_the_request() -> None:
    error = raised_from(ImageError("is broken"), KINDS[4][0])
    assert isinstance(shortage_behind(error), UnavailableError)


def test_memory_that_a_request_asks_for_stays_its_own_error() -> None:
    error = raised_from(InvalidWeightsError("takes too much"), MemoryError())
    assert shortage_behind(error) is None
    assert shortage_behind(StorageError("full")) is not None


def test_a_sentence_names_the_file_and_what_to_do() -> None:
    sentence = str(shortage_behind(KINDS[0][0]))
    assert sentence.startswith("/disk/file can't be written on this server: No space left")
    assert "made room on the disk" in sentence


def test_a_download_onto_a_full_disk_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, no_caches_of_the_user: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    weights, key = WeightsFolder(tmp_path, allow_download=True), ModelKey("a", "b", Pretrained("c"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with http((200, bytes(3_000_000))) as address:
        published = PublishedWeights(f"{address}/net.pth")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(StorageError):
                weights.locate(key, published)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert weights.locate(key, published).stat().st_size == 3_000_000
    with closed_port() as port, pytest.raises(WeightsMissingError):
        weights.locate(key, PublishedWeights(f"http://127.0.0.1:{port}/other.pth"))


def test_only_what_nobody_is_writing_is_deleted(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-killed").write_bytes(b"half")
    with unfinished_folder(tmp_path) as folder:
        (folder / "file").write_bytes(b"half")
        write_file(tmp_path / "whole", b"all of it")
        remove_unfinished(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "whole"}
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_files_are_written_with_the_rights_that_the_user_has_chosen(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_pool_has_all_its_threads_before_its_work() -> None:
    prepared: list[str] = []
    with ThreadPoolExecutor(3, "early") as pool:
        start_threads(pool, 3, lambda: prepared.append(threading.current_thread().name))
        names = {thread.name for thread in threading.enumerate()}
        assert set(prepared) == {f"early_{number}" for number in range(3)} <= names
    check_threads(2)
