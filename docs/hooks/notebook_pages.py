"""Makes a page, and a notebook to download, of each notebook's source; runs none of them.

Sources are Python (jupytext's `percent`): changes can be read and linted, and there are no outputs
to keep up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = Path("notebooks")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages to those of the site, and take the sources away; MkDocs calls this."""
    for source in sorted((Path(config.docs_dir) / FOLDER).glob("*.py")):
        place = FOLDER / source.stem
        notebook = jupytext.read(source)
        files.append(_file(config, f"{place}.md", _page(notebook, source.stem)))
        files.append(_file(config, f"{place}.ipynb", nbformat.writes(notebook)))  # type: ignore[no-untyped-call]
        files.remove(files.src_uris[f"{place}.py"])
    return files


def _file(config: MkDocsConfig, uri: str, content: str) -> File:
    return File.generated(config, uri, content=content)


def _page(notebook: Any, stem: str) -> str:
    """Return the cells as Markdown, with a link to the notebook below the title."""
    title, *cells = [_cell(cell) for cell in notebook.cells]
    link = f"[Download this notebook]({stem}.ipynb){{ .md-button download }}"
    return "\n\n".join([title, link, *cells]) + "\n"


def _cell(cell: Any) -> str:
    return f"```python\n{cell.source}\n```" if cell.cell_type == "code" else str(cell.source)
