"""What results a file has that is to be replaced, and whether the new ones are something else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..calls.caller import warn_caller
from ..errors import InvalidRequestError, ReplacedFileWarning
from ..files import metadata_path
from .document import content_of, document_of, file_sha256

FIGURE_ENDINGS = (".png", ".svg", ".pdf")

_VOLATILE = frozenset(
    (
        "arithmetic", "client_version", "cores", "device", "extracted", "figure", "file",
        "file_sha256", "format", "framework", "hardware", "image_root", "rsatoolbox_version",
        "scores", "server_version", "servers", "written",
    )
)  # fmt: skip
"""What may differ in metadata of the same results."""

_OF_ROWS = ("images", "modules", "names", "rows")
"""What depends on which rows of an array a file has."""

_UNKNOWN: dict[str, Any] = {}
"""The metadata of a file that has none."""


def metadata_of(path: Path) -> Mapping[str, Any] | None:
    """Return what is known of the file at a path; empty if nothing is, None without a file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(metadata_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {**_UNKNOWN, "file_sha256": file_sha256(path)}


def is_other(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether metadata are of other results: of another model, other images, other options.

    Results of unknown origin are the same only if their values are, or the bytes of the file.
    """
    if "file_sha256" in old and old["file_sha256"] == new.get("file_sha256"):
        return False
    before, now = _facts(old), _facts(new)
    return before != now or not (_is_known(now) or _has_digests(now))


def is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether metadata say the same of results, known or not, but for dates and versions."""
    return bool(_facts(old) == _facts(new))


def check_free(
    path: Path, planned: Mapping[str, Any], *, overwrite: bool, beside: Iterable[Path] = ()
) -> None:
    """Raise InvalidRequestError if writing results to a path would replace something else.

    `planned` has what the metadata will say. `beside` are files that belong to the results: those
    of something else must not stay. With `overwrite` there is no error.
    """
    if overwrite:
        return
    for one in (path, *beside):
        old = metadata_of(one)
        if old is not None and is_other(old, planned):
            raise InvalidRequestError(
                f"{one} has {describe(old)}: choose another folder or name, or replace it with "
                "overwrite=True (in a shell --overwrite)."
            )


@contextmanager
def refuse_or_replace(path: Path, features: Any, *, overwrite: bool) -> Iterator[None]:
    """Raise InvalidRequestError before the block if it would replace a file of other features.

    The block writes `features`; in it there is no warning of the file that is replaced.
    """
    arrays = features if isinstance(features, Mapping) else {path.stem: features}
    contents = {name: content_of(array) for name, array in arrays.items()}
    check_free(path, document_of(contents), overwrite=overwrite)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReplacedFileWarning)
        yield


def remove_stale(paths: Iterable[Path], planned: Mapping[str, Any]) -> None:
    """Remove files that belonged to other results than those that are now beside them."""
    for path in paths:
        old = metadata_of(path)
        if old is not None and is_other(old, planned):
            path.unlink(missing_ok=True)
            metadata_path(path).unlink(missing_ok=True)


def figures_of(path: Path) -> list[Path]:
    """Return the paths of the figures of a file of results."""
    return [path.with_suffix(ending) for ending in FIGURE_ENDINGS]


@contextmanager
def warn_of_replaced(path: Path, *, is_piece: bool = False) -> Iterator[None]:
    """Warn after the block, which writes a file, if that file was of something else before.

    `is_piece`: the file has some of the rows, and may have had others of the same features.
    """
    old = metadata_of(path)
    yield
    new = metadata_of(path)
    if old is None or new is None:
        return
    if is_other(*((_without_rows(one) for one in (old, new)) if is_piece else (old, new))):
        warn_caller(f"{path} was replaced: it had {describe(old)}.", ReplacedFileWarning)


def describe(document: Mapping[str, Any]) -> str:
    """Return what metadata say of results: module, model, images, date."""
    if not _is_known(document):
        shapes = [
            f"{' x '.join(map(str, one['shape']))} {one['dtype']}"
            for one in (document.get("modules") or {}).values()
        ]
        told = [*shapes, f"written {document['written']}" if document.get("written") else ""]
        listed = ", ".join(filter(None, told))
        return f"results of unknown origin{listed and f' ({listed})'}"
    if "inputs" in document:
        return f"a figure of {', '.join(document['inputs'])}"
    facts = next(iter(document.get("origins", {}).values()), document)
    modules = document.get("modules") or {}
    named = [str(one.get("module") or name) for name, one in modules.items()]
    count = len(facts.get("images", ())) or facts.get("image_count")
    parts = [
        f"{document['metric']} RDMs of" if document.get("metric") else "features of",
        ", ".join(named) or "all modules",
        f"of {facts['model']}",
        f"for {count:,} images" if count else "",
        f"(written {document['written']})" if document.get("written") else "",
    ]
    return " ".join(filter(None, parts))


def _without_rows(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _OF_ROWS}


def _facts(document: Any) -> Any:
    """Return what must be the same in metadata of the same results, as JSON has it."""
    if isinstance(document, Mapping):
        return {key: _facts(value) for key, value in document.items() if key not in _VOLATILE}
    is_list = isinstance(document, (list, tuple))
    return [_facts(one) for one in document] if is_list else document


def _has_digests(document: Mapping[str, Any]) -> bool:
    """Tell whether all arrays are known by their values."""
    modules = document.get("modules") or {}
    return bool(modules) and all("values_sha256" in one for one in modules.values())


def _is_known(document: Mapping[str, Any]) -> bool:
    return "model" in document or "origins" in document or "inputs" in document
