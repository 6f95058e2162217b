"""Answers which files exist from a single scan of each directory, for lists of many models.

A list looks for about ten files for each of thousands of weights, most of them in the same
directories.
"""

from __future__ import annotations

import os


class DirectorySnapshot:
    """The contents of directories, each as it was when first asked about."""

    def __init__(self) -> None:
        self._directories: dict[str, dict[str, bool]] = {}

    def is_file(self, path: str) -> bool:
        """Return whether a file exists."""
        directory, _, name = path.rpartition(os.sep)
        return self._scan(directory).get(name, False)

    def is_dir(self, path: str) -> bool:
        """Return whether a directory exists."""
        directory, _, name = path.rpartition(os.sep)
        return not self._scan(directory).get(name, True)

    def _scan(self, directory: str) -> dict[str, bool]:
        """Return the names in a directory, and whether each is a file; empty if it is missing."""
        if directory not in self._directories:
            try:
                with os.scandir(directory) as found:
                    self._directories[directory] = {entry.name: entry.is_file() for entry in found}
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                self._directories[directory] = {}
        return self._directories[directory]
