"""The spool of features: the same rows come back, from memory and disk, and nothing stays."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from thingsvision_server.engine.rows.spill import SpillQuota
from thingsvision_server.engine.rows.spool import GROUP_BYTES, FeatureSpool
from thingsvision_server.errors import ExhaustedError
from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.metrics import METRICS

COLUMNS = [("wide", 1300, "float32"), ("narrow", 7, "float64"), ("tiles", 512, "float32")]
IN_MEMORY = 1 << 30


def features(n):
    random = np.random.default_rng(n)
    return [random.standard_normal((n, p)).astype(dtype) for _, p, dtype in COLUMNS]


def fill(spool, arrays, step=13):
    for start in range(0, len(arrays[0]), step):
        spool.append([array[start : start + step] for array in arrays])


def temporary_files(directory):
    """What this process has open in a directory, unlinked or not."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return [t for t in targets if t.startswith(str(directory))] + list(directory.iterdir())


@pytest.mark.parametrize("budget_bytes", [0, 50_000, 300_000, IN_MEMORY])
@pytest.mark.parametrize("n", [1, 100])
def test_rows_and_values_come_back(tmp_path, budget_bytes, n):
    arrays = features(n)
    with FeatureSpool(COLUMNS, budget_bytes, tmp_path) as spool:
        fill(spool, arrays)
        assert (spool.disk_bytes > 0) == (budget_bytes < IN_MEMORY and n > 1)
        for (name, width, dtype), expected in zip(COLUMNS, arrays, strict=True):
            rows = spool.rows(name)
            assert (rows.row_count, rows.value_count) == (n, width)
            for start, stop in [(0, width), (0, 5), (3, 7), (256, 512), (511, 513), (600, 1300)]:
                found = rows.values(min(start, width), min(stop, width))
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, expected[:, start:stop])
            for start, stop in [(0, n), (0, 1), (n // 2, n), (n - 1, n)]:
                np.testing.assert_array_equal(rows.rows(start, stop), expected[start:stop])


@pytest.mark.parametrize("budget_bytes", [0, 50_000, IN_MEMORY])
@pytest.mark.parametrize("indices", [[0], [99], [0, 1, 2], [3, 40, 41, 98]])
def test_values_of_some_rows(tmp_path, budget_bytes, indices):
    arrays = features(100)
    with FeatureSpool(COLUMNS, budget_bytes, tmp_path) as spool:
        fill(spool, arrays)
        for (name, width, dtype), expected in zip(COLUMNS, arrays, strict=True):
            for start, stop in [(0, width), (3, 7)]:
                found = spool.rows(name).values_of(np.array(indices), start, stop)
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, expected[indices, start:stop])


def test_reading_between_appends(tmp_path):
    arrays = features(40)
    with FeatureSpool(COLUMNS, 100_000, tmp_path) as spool:
        for row in range(40):
            spool.append([array[row : row + 1] for array in arrays])
            found = spool.rows("wide").values(0, 1300)
            np.testing.assert_array_equal(found, arrays[0][: row + 1])


def test_appended_arrays_may_be_reused():
    batch = [np.ones((2, p), dtype) for _, p, dtype in COLUMNS]
    with FeatureSpool(COLUMNS, IN_MEMORY) as spool:
        spool.append(batch)
        batch[0][:] = 5
        assert spool.rows("wide").values(0, 1300).max() == 1


@pytest.mark.parametrize("metric", METRICS)
def test_spilled_rdm_is_the_same_bit_for_bit(tmp_path, metric):
    arrays = features(150)
    arrays[0][17] = arrays[0][90]
    found = []
    for budget_bytes in (IN_MEMORY, 20_000):
        with FeatureSpool(COLUMNS, budget_bytes, tmp_path) as spool:
            fill(spool, arrays)
            found.append(compute_rdm(spool.rows("wide"), metric, block_bytes=1).distances)
    assert found[0].tobytes() == found[1].tobytes()


def test_the_file_has_no_name_and_goes_even_after_an_error(tmp_path):
    spool = FeatureSpool(COLUMNS, 0, tmp_path)
    with suppress(ZeroDivisionError), spool:
        fill(spool, features(50))
        assert len(temporary_files(tmp_path)) == 1
        assert list(tmp_path.iterdir()) == []
        raise ZeroDivisionError
    assert temporary_files(tmp_path) == []
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.append(features(1))


def test_in_memory_touches_no_disk(tmp_path):
    with FeatureSpool(COLUMNS, IN_MEMORY, tmp_path) as spool:
        fill(spool, features(50))
        assert temporary_files(tmp_path) == []


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        features(2)[:2],
        [*features(2)[:2], features(3)[2]],
        [features(2)[0].astype("float64"), *features(2)[1:]],
        [features(2)[0].reshape(2, 13, 100), *features(2)[1:]],
    ],
)
def test_rows_that_do_not_fit_are_refused(arrays):
    with FeatureSpool(COLUMNS, IN_MEMORY) as spool:
        with pytest.raises(ValueError, match="must fit"):
            spool.append(arrays)
        assert spool.row_count == 0


def test_unknown_and_double_columns():
    with FeatureSpool(COLUMNS, IN_MEMORY) as spool, pytest.raises(KeyError, match="wid"):
        spool.rows("wid")
    with pytest.raises(ValueError, match="wide"):
        FeatureSpool([COLUMNS[0], COLUMNS[0]], IN_MEMORY)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from thingsvision_server.engine.rows.spool import FeatureSpool
from thingsvision_server.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    with FeatureSpool([("a", 1000, "float32")], 100_000, Path(sys.argv[1])) as spool:
        for _ in range(1000):
            spool.append([np.ones((1, 1000), "float32")])
except StorageError as error:
    print(error, "|", error.subject)
"""


def test_a_full_disk_names_directory_and_bytes(tmp_path):
    message, subject = run(FULL_DISK, tmp_path).strip().split(" | ")
    assert message.startswith(f"{tmp_path} has no room for 48000 more bytes of features (")
    assert subject == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


BOUNDED = """
import sys, threading, time
from pathlib import Path
import numpy as np
import psutil
import torch
from thingsvision_server.engine.rows.spool import FeatureSpool
from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.rows import ArrayRows
n, p, step = 2000, 5000, 50
batch = np.random.default_rng(0).standard_normal((step, p)).astype("float32")
compute_rdm(ArrayRows(batch), "correlation")
me = psutil.Process()
before = peak = me.memory_info().rss
def watch():
    global peak
    while True:
        peak = max(peak, me.memory_info().rss)
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
with FeatureSpool([("a", p, "float32")], 4 << 20, Path(sys.argv[1])) as spool:
    for _ in range(n // step):
        spool.append([batch])
        batch += 1
        batch[0] *= -1
    collecting = peak - before
    assert spool.disk_bytes > n * p * 4 - (4 << 20)
    compute_rdm(spool.rows("a"), sys.argv[2], block_bytes=4 << 20)
print(collecting, peak - before)
"""


def test_memory_stays_bounded(tmp_path):
    """40 MB of features in 4 MiB; the RDM takes its 32 MB and some blocks of 8 MB."""
    pytest.importorskip("psutil")
    collecting, peak = map(int, run(BOUNDED, tmp_path, "euclidean").split())
    assert collecting < 10 << 20
    assert peak < 75 << 20


def test_a_row_larger_than_a_group(tmp_path):
    width = GROUP_BYTES // 4 + 300
    rows = np.zeros((2, width), "float32")
    rows[1] = np.arange(width)
    with FeatureSpool([("a", width, "float32")], 1 << 20, tmp_path) as spool:
        spool.append([rows])
        np.testing.assert_array_equal(spool.rows("a").values(width - 1, width), rows[:, -1:])
        np.testing.assert_array_equal(spool.rows("a").rows(1, 2), rows[1:])


def test_requests_share_the_quota_of_spilled_features(tmp_path):
    quota, rows = SpillQuota(200_000), [np.ones((100, 250), np.float32)]
    column = [("a", 250, "float32")]
    with FeatureSpool(column, 0, tmp_path, quota) as one:
        one.expect(200)
        with pytest.raises(ExhaustedError, match=r"would spill 201,000 bytes.*--spill-quota"):
            one.expect(201)
        one.append(rows)
        refused = pytest.raises(ExhaustedError, match=r"bytes of features are spilled.*200,000")
        with FeatureSpool(column, 0, tmp_path, quota) as other, refused:
            other.append([np.ones((200, 250), np.float32)])
        one.append([rows[0][:50]])
    with FeatureSpool(column, 0, tmp_path, quota) as after:
        after.append([np.ones((199, 250), np.float32)])
