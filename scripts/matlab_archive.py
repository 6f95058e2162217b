"""Writes the MATLAB client as a zip archive for a release."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import tomllib

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / "client" / "matlab"
ENDINGS = (".m", ".md")
_DATE = (2020, 1, 1, 0, 0, 0)
"""Of all files, so that the same files give the same archive."""


def write_archive(folder: Path) -> Path:
    """Write `thingsvision-matlab-VERSION.zip` into a folder and return its path."""
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"thingsvision-matlab-{version}.zip"
    files = sorted(file for file in FOLDER.rglob("*") if file.suffix in ENDINGS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            _add(archive, file.relative_to(FOLDER).as_posix(), file)
        _add(archive, "LICENSE", CHECKOUT / "LICENSE")
    return path


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    archive.writestr(zipfile.ZipInfo(f"thingsvision-matlab/{name}", _DATE), file.read_bytes())


def main() -> None:
    """Write the archive into the folder that was named, by default `dist`."""
    print(write_archive(Path(sys.argv[1] if len(sys.argv) > 1 else CHECKOUT / "dist")))


if __name__ == "__main__":
    main()
