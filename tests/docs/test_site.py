"""The site builds without a fault, fetches nothing, and has every option and every public name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pytest
import typer
from markdown_blocks import blocks

import thingsvision_client
from support.checkout import CHECKOUT
from thingsvision_client.cli import app
from thingsvision_server.settings import Settings
from thingsvision_server.sources.facts import FILE

DOCS = CHECKOUT / "docs"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TABLE_ROW = re.compile(r"^\| `(?P<old>.+?)` \| `(?P<new>.+?)` \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `scripts/docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=CHECKOUT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class _Text(HTMLParser):
    """Collects text by the second-level heading above it, and what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, str] = {"": ""}
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self._section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        if tag == "h2":
            self._section = str(found.get("id"))
            self.sections[self._section] = ""
        is_link = tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect")
        if tag in ("script", "img", "iframe", "source") or is_link:
            self.fetched.append(found.get("src") or found.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.sections[self._section] += data


def read(page: Path) -> _Text:
    parser = _Text()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_no_page_fetches_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert not [url for url in read(page).fetched if "//" in url], page
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?https?:|@import", style.read_text("utf-8")), style


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_documented(site: Path, command: str) -> None:
    text = read(site / "command-line" / "index.html").sections[command]
    parameters = COMMANDS[command].params
    assert parameters
    for parameter in parameters:
        is_option = parameter.param_type_name == "option"
        for name in [*parameter.opts, *parameter.secondary_opts] if is_option else []:
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
        assert " ".join(parameter.help.replace("`", "").split()) in " ".join(text.split())


def test_every_option_of_the_server_is_documented(site: Path) -> None:
    text = read(site / "deploy" / "index.html").sections["every-option"]
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"THINGSVISION_{name.upper()}" in text
        assert str(field.description).replace("`", "") in text


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    ids: set[str] = set()
    for page in (site / "reference").rglob("*.html"):
        ids |= read(page).ids
    vision, errors = (import_module(f"thingsvision_client.{name}") for name in ("vision", "errors"))
    names = {f"{vision.__name__}.{name}" for name in vision.__all__}
    exported = [getattr(thingsvision_client, name) for name in thingsvision_client.__all__]
    for thing in [*exported, *vars(errors).values()]:
        if getattr(thing, "__module__", "").startswith("thingsvision_client."):
            names.add(f"{thing.__module__}.{thing.__qualname__}")
    assert len(names) > 50
    assert not names - ids, sorted(names - ids)


# ---------------------------------------------------------------- from THINGSvision to here

PAGE = DOCS / "from-thingsvision.md"
ROWS = [match.groups() for match in TABLE_ROW.finditer(PAGE.read_text("utf-8"))]


def test_the_table_has_both_eras() -> None:
    old = [line for line, _ in ROWS]
    assert len(ROWS) > 10
    assert "import thingsvision.vision as vision" in old
    assert "from thingsvision import get_extractor" in old


@pytest.mark.parametrize(("old", "new"), ROWS)
def test_only_the_first_word_of_a_line_changes_and_it_works(old: str, new: str) -> None:
    if old.startswith("thingsvision "):
        assert new == old.replace("thingsvision", "thingsvision-client", 1)
        assert new.split()[1] in COMMANDS
        return
    assert new == re.sub(r"\bthingsvision\b", "thingsvision_client", old, count=1)
    exec(new, {})


def test_every_block_of_the_page_compiles() -> None:
    found = [block for block in blocks(PAGE) if block.language == "python"]
    assert len(found) >= 3
    for block in found:
        compile(block.code, str(block), "exec")
        imports = [line for line in block.code.splitlines() if "thingsvision_client" in line]
        exec("\n".join(line for line in imports if line.startswith(("from ", "import "))), {})


# ---------------------------------------------------------------- notebooks


def test_notebooks_can_be_downloaded_and_have_no_outputs(site: Path) -> None:
    found = sorted((site / "notebooks").rglob("*.ipynb"))
    assert len(found) == len(list((DOCS / "notebooks").glob("*.py"))) == 3
    for path in found:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.cells[0].source.startswith("# ")
        assert not any(cell.get("outputs") for cell in notebook.cells)
        page = path.with_suffix("") / "index.html"
        text = page.read_text("utf-8")
        assert f"../{path.name}" in text
        figures = sorted(path.parent.glob(f"{path.stem}-*.png"))
        assert len(figures) >= 2, "the page shows no figures"
        assert all(f"../{figure.name}" in text for figure in figures)
    tree = (site / "notebooks/features_of_photographs/index.html").read_text("utf-8")
    assert "(5, 128, 54, 54) float32" in tree, "the page shows no printed output"


def test_the_catalogue_has_every_model_and_its_training_data(site: Path) -> None:
    page = (site / "catalogue" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td><code>(.+?)</code></td>.*?<td>([^<]*)</td></tr>", page)
    listed = sum(
        len(source["models"]) for source in json.loads(FILE.read_text())["sources"].values()
    )
    assert len(dict(rows)) == listed > 1500
    assert dict(rows)["torchvision/alexnet"] == "ImageNet-1k"
    assert dict(rows)["timm/beit_base_patch16_384"] == "ImageNet-22k, then ImageNet-1k"
