"""A cluster of two servers for the tests that end none of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.small_cluster import SmallCluster, small_cluster


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    """Two servers that announce themselves in one folder."""
    with small_cluster(tmp_path_factory.mktemp("cluster"), lame_duck_seconds=0) as cluster:
        yield cluster
