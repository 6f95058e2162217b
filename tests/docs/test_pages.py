"""Every block of code of the pages runs, in order, as a reader would run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_blocks import blocks

from support.checkout import CHECKOUT
from support.serving import TestServer

DOCS = CHECKOUT / "docs"

RUN = {"python", "sh"}
"""Languages of blocks that are run."""

SHOWN = {"bash", "matlab", "pycon", "text", "js", "r", "go", "java", "toml"}
"""Languages of blocks that are not run here: installing, servers, prompts, what is printed.

Those of MATLAB run in Octave (tests/matlab/test_page.py).
"""

PAGES = ["../README.md", *sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))]
RUNNABLE = [page for page in PAGES if any(block.language in RUN for block in blocks(DOCS / page))]
NEEDS_DATA = {"gallery.md": "rsa92", "rsa.md": "rsa92"}
"""Pages of data that are not in this repository, and the folder that they are in."""

WITH_CLASSES = {"from-thingsvision.md", "paper.md"}
"""Pages whose `photos` have a subfolder for each class."""

GENERATED = {"zoo.md"}

COLUMN = 88
"""Characters of code that fit beside the site's navigation."""

PRINTS = {
    "from-thingsvision.md": ["(3, 43264)", "(5, 512, 13, 13)"],
    "index.md": [
        "features.10: equal bit for bit (5 rows",
        "results-2/features.npy passes the check.",
    ],
    "languages.md": ["(1, 4096)"],
    "layers.md": ["V1 (5, 64, 56, 56)", "IT.output@all (5, 5, 512, 7, 7)", "(5, 512) (2, 512)"],
    "long-extractions.md": [
        "(5, 256, 13, 13)",
        "Already complete",
        "features.hdf5 passes the check.",
        "(5, 3) photos",
    ],
    "paper.md": ["(5, 43264) (5, 1)"],
    "rsa.md": ["human IT   features.12   0.3727", "0.372730", "0.495938"],
}
"""Parts of the output of pages."""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_whether_it_is_run(page: str) -> None:
    for block in blocks(DOCS / page):
        assert block.language in RUN | SHOWN, f"{block} is of {block.language!r}"


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if page not in GENERATED])
def test_a_page_says_at_its_top_what_it_needs(page: str) -> None:
    top = ("\n" + (DOCS / page).read_text("utf-8")).partition("\n# ")[2]
    first = " ".join(" ".join(top.splitlines()[:8]).split())
    assert "**You need** " in first
    assert "`photos`" in first or "No images are used." in first or "no folder of yours" in first


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_the_column(page: str) -> None:
    for block in blocks(DOCS / page):
        for line in block.code.splitlines():
            assert len(line) <= COLUMN, f"{block}: {line}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_runs(
    page: str, pages_server: TestServer, reader: Path, request: pytest.FixtureRequest
) -> None:
    if page in NEEDS_DATA:
        shared_data: Path = request.getfixturevalue("shared_data")
        (reader / NEEDS_DATA[page]).symlink_to(shared_data / NEEDS_DATA[page])
    if page in WITH_CLASSES:
        shutil.rmtree(reader / "photos")
        (reader / "images").rename(reader / "photos")
    environment = os.environ | {
        "THINGSVISION_SERVER": pages_server.address,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).with_name("run_page.py"), DOCS / page],
        cwd=reader,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-5000:]
    for text in PRINTS.get(page, []):
        assert text in printed
