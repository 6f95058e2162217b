"""Leaves pages that are only a long table out of the search, which they would fill."""

from __future__ import annotations

from typing import Any

LEFT_OUT = {"zoo.md"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mark such a page; MkDocs calls this for each page."""
    if page.file.src_uri in LEFT_OUT:
        page.meta["search"] = {"exclude": True}
    return markdown
