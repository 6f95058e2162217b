"""Free disk and memory of what tests leave, before the session ends."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from support.serving import running_servers
from thingsvision_server.allocator import release_freed_memory


class FoldersOfFixtures:
    """Remove what `tmp_path_factory` made for a module's, class's or package's fixtures.

    pytest removes a passed test's own folder (`tmp_path_retention_policy`); other fixtures'
    folders stay until its session ends, which took 12 GB for the whole suite.
    """

    def __init__(self) -> None:
        self._made: dict[pytest.FixtureDef[object], set[Path]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Remember which folders a fixture makes."""
        if fixturedef.scope in ("function", "session"):
            return (yield)
        base = request.getfixturevalue("tmp_path_factory").getbasetemp()
        before = set(base.iterdir())
        try:
            return (yield)
        finally:
            made = {folder for folder in set(base.iterdir()) - before if not folder.is_symlink()}
            self._made.setdefault(fixturedef, set()).update(made)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        """Remove the folders of a fixture that has ended."""
        for folder in self._made.pop(fixturedef, ()):
            shutil.rmtree(folder, ignore_errors=True)


class FreedMemory:
    """Return memory to the system when tests have left much of it since the last time.

    Networks refer to themselves, so only a collection frees them; servers that several files share
    keep models for the next request; test servers' threads keep what is freed. Without this a
    worker grew to 6 GB, and three run at once.
    """

    GROWTH = 2**29
    """How much may be left by the tests of a file, bytes."""

    GROWTH_OF_FILES = 2**27
    """How much may be left when a file has ended, bytes."""

    KEPT_MODELS = 280 * 2**20
    """Models that each server may keep for the next file, bytes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._level = self._process.memory_info().rss

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, None, None]:
        """Unload models at the end of a file; collect garbage if the process has grown."""
        yield
        allowed = self.GROWTH
        if nextitem is None or nextitem.path != item.path:
            allowed = self.GROWTH_OF_FILES
            for server in running_servers():
                server.unload_idle(self.KEPT_MODELS)
        if self._process.memory_info().rss > self._level + allowed:
            gc.collect()
            release_freed_memory()
            self._level = self._process.memory_info().rss
