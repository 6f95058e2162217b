"""The map names files that exist, and its picture shows the floors that the contracts have."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support.checkout import CHECKOUT

PLACES = {
    "client": CHECKOUT / "client" / "thingsvision_client",
    "server": CHECKOUT / "server" / "thingsvision_server",
    "proto": CHECKOUT / "proto" / "thingsvision_proto",
}
"""What the first word of a path on the map stands for."""

ROOTS = [*PLACES, "bench", "docs", "scripts", "tests"]

PAGES = ["docs/architecture.md", "CONTRIBUTING.md"]


def named_paths(page: str) -> list[str]:
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", text)
    words = [word for words in code for word in words.split()]
    return [word for word in words if re.fullmatch(rf"({'|'.join(ROOTS)})(/[\w.-]*)+", word)]


def is_there(path: str) -> bool:
    first, _, rest = path.partition("/")
    place = PLACES.get(first)
    return (CHECKOUT / path).exists() or (place is not None and (place / rest).exists())


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_the_map_names_exists(page: str) -> None:
    paths = named_paths(page)
    assert len(paths) > 10
    assert [path for path in paths if not is_there(path)] == []


def test_the_picture_shows_the_floors_of_the_contracts() -> None:
    command = [sys.executable, CHECKOUT / "scripts" / "house.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short() -> None:
    lines = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
