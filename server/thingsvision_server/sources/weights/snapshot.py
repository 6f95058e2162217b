"""Tells which files are there from one look at each folder, for lists of many models.

A list asks for some ten files of each of thousands of weights, most of them in the same folders.
"""

from __future__ import annotations

import os


class DirectorySnapshot:
    """Folders as they were when first asked about."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, bool]] = {}

    def is_file(self, path: str) -> bool:
        """Tell whether there is such a file."""
        folder, _, name = path.rpartition(os.sep)
        return self._look_into(folder).get(name, False)

    def is_dir(self, path: str) -> bool:
        """Tell whether there is such a folder."""
        folder, _, name = path.rpartition(os.sep)
        return not self._look_into(folder).get(name, True)

    def _look_into(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder, and which are files; none where it is not there."""
        if folder not in self._folders:
            try:
                with os.scandir(folder) as found:
                    self._folders[folder] = {entry.name: entry.is_file() for entry in found}
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                self._folders[folder] = {}
        return self._folders[folder]
