"""Checks how large the files in a zip archive are before any of them is read.

A few KB of zip can announce TB: packed files of zeros, or files that share their bytes. What
frameworks write is not packed, and has as many bytes as the archive.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from ...errors import InvalidWeightsError

_LEAST_BYTES = 64 * 1024 * 1024
_FACTOR = 4
"""Files may have so many bytes, or so many times the archive's: weights hardly get smaller."""

_MOST_FILES = 1_000_000
_NOT_A_ZIP = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)


def list_archive(path: Path, called: str) -> list[str]:
    """Return the names of the files in an archive; none if it is broken.

    Raises InvalidWeightsError if they are together much larger than the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _NOT_A_ZIP:
        return []  # the check of its format will say what is wrong
    most = max(_LEAST_BYTES, _FACTOR * path.stat().st_size)
    total = sum(member.file_size for member in members)
    if total > most or len(members) > _MOST_FILES:
        raise InvalidWeightsError(
            f"{called} is rejected: the {len(members):,} files in it have {total:,} bytes, and of "
            f"an archive of its size at most {most:,} are read. Save it again, unpacked",
            subject=called,
        )
    return [member.filename for member in members]
