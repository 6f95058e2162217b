"""Arrays that tests save, names of their rows, and what lies in a folder afterwards."""

from pathlib import Path

import numpy as np

RNG = np.random.default_rng(4)
FLAT = RNG.normal(size=(23, 7)).astype("float32")
MAPS = RNG.normal(size=(23, 3, 4, 1)).astype("float32")
SEVERAL = {"block/conv": MAPS, "fc.2": FLAT, "": FLAT[:, :2]}
NAMES = [f"class {row % 3}/bild ä {row:02d}.jpg" for row in range(23)]
OF_TENSORS = ["npy", "npz", "hdf5", "mat", "pt", "parquet"]


def write_names(folder: Path, names: list[str] = NAMES) -> None:
    (folder / "file_names.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


def files(folder: Path) -> list[str]:
    """All files but origins, from the folder."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    beside = {f"{path}.json" for path in found}
    return sorted(str(path.relative_to(folder)) for path in found if str(path) not in beside)


def assert_same(actual: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(actual[name], array, strict=True)
    else:
        np.testing.assert_array_equal(actual, expected, strict=True)
