"""What formats cost: memory while they write, and packages that only some need."""

import subprocess
import sys
from pathlib import Path

import pytest

from thingsvision_client.formats import FORMATS

STREAM = """
import sys, threading, time
from pathlib import Path
import numpy as np
from thingsvision_client.formats import FORMATS, Column, mat

def own_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

def stream(name, count, path):
    columns = [Column("a", (8, 32, 64), "float32"), Column("b", (1024,), "float32")]
    columns = columns[: 2 if FORMATS[name].holds_several else 1]
    if name == "txt":
        columns = [Column("a", (1024,), "float32")]
    rows = [np.random.default_rng(1).normal(size=(16, *c.shape)).astype("float32") for c in columns]
    with FORMATS[name].open_writer(path, columns, count) as writer:
        for start in range(0, count, 16):
            writer.write(rows)
    path.unlink()

class Watch(threading.Thread):
    def __init__(self):
        super().__init__()
        self.before = self.peak = own_mib()
        self.done = False
        self.start()

    def run(self):
        while not self.done:
            self.peak = max(self.peak, own_mib())
            time.sleep(0.002)

for name, mib in (("npy", 96), ("npz", 96), ("hdf5", 96), ("mat", 96), ("mat73", 96),
                  ("pt", 96), ("parquet", 240), ("txt", 8)):
    mat.VERSION_5_BYTES = 10 if name == "mat73" else 10**9
    name, told = name.removesuffix("73"), name
    stream(name, 32, Path(sys.argv[1], "first.mat"))
    watch = Watch()
    row_bytes = 4096 if name == "txt" else 64 * 1024
    stream(name, mib * 2**20 // row_bytes, Path(sys.argv[1], "second.mat"))
    watch.done = True
    watch.join()
    print(told, round(watch.peak - watch.before))
"""

MOST_MIB = {
    "npy": 8,
    "npz": 24,
    "hdf5": 24,
    "mat": 40,
    "mat73": 60,
    "pt": 24,
    "parquet": 110,
    "txt": 3,
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Of 96 MiB (parquet 240, txt 8), and none of it in memory maps."""
    result = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path)], capture_output=True, text=True
    )
    used = {name: int(mib) for name, mib in map(str.split, result.stdout.splitlines())}
    assert set(used) == set(MOST_MIB), result.stderr
    assert all(used[name] <= MOST_MIB[name] for name in used), used


def without(package: str, code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{package!r}] = None\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("package", "name", "wanted"),
    [
        ("h5py", "hdf5", "pip install 'thingsvision-service[hdf5]'"),
        ("torch", "pt", "pip install torch"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_extracted(
    package: str, name: str, wanted: str, tmp_path: Path
) -> None:
    code = f"""
import numpy as np
from thingsvision_client.errors import MissingDependencyError
from thingsvision_client.utils.storing import check_format, merge_features, save_features
for call in (
    lambda: check_format({name!r}, 1),
    lambda: save_features(np.ones((2, 3)), {str(tmp_path / "new")!r}, {name!r}),
    lambda: merge_features({str(tmp_path)!r}, {name!r}),
):
    try:
        call()
    except MissingDependencyError as error:
        print(error)
"""
    (tmp_path / f"features.{FORMATS[name].suffix}").write_bytes(b"not empty")
    told = without(package, code).splitlines()
    assert len(told) == 3
    assert all(wanted in line for line in told)
    assert [path.name for path in tmp_path.glob("new/*")] == []


def test_mat_needs_h5py_only_from_2_gb_on(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from thingsvision_client.errors import MissingDependencyError
from thingsvision_client.formats import mat
from thingsvision_client.utils.storing import merge_features, save_features
save_features(np.ones((2, 3)), {str(tmp_path)!r}, "mat")
print(merge_features({str(tmp_path)!r}, "mat").sum())
mat.VERSION_5_BYTES = 10
try:
    save_features(np.ones((2, 3)), {str(tmp_path)!r}, "mat")
except MissingDependencyError as error:
    print(error)
"""
    assert without("h5py", code).splitlines() == [
        "6.0",
        "mat files of version 7.3 need h5py: pip install 'thingsvision-service[hdf5]'",
    ]


def test_formats_load_nothing_heavy() -> None:
    code = "import thingsvision_client.utils.storing; print(*sys.modules)"
    loaded = set(without("no_such_package", code).split())
    assert not {"h5py", "torch", "scipy", "pandas", "pyarrow", "matplotlib"} & loaded
