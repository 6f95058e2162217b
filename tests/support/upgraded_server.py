"""A server of another version: its package's metadata are a copy with another number."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from thingsvision_server.version import server_version

NAME = "thingsvision-service"


def copy_package(folder: Path, version: str) -> Path:
    """Copy the metadata of the installed package, as those of another version, into a folder."""
    found = Path(str(distribution(NAME).locate_file("."))).glob("thingsvision_service-*.dist-info")
    copied = folder / f"thingsvision_service-{version}.dist-info"
    copied.mkdir(parents=True)
    text = (next(iter(found)) / "METADATA").read_text("utf-8")
    lines = (
        f"Version: {version}" if one.startswith("Version: ") else one for one in text.split("\n")
    )
    (copied / "METADATA").write_text("\n".join(lines), "utf-8")
    return folder


def install(folder: str) -> None:
    """Have this process find the package of a folder before any other."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    server_version.cache_clear()


def upgraded(folder: Path, version: str) -> dict[str, Any]:
    """Return the options of `server_process` for a server of that version."""
    return {"before": partial(install, str(copy_package(folder, version)))}
