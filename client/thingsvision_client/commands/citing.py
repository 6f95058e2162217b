"""The paragraph for a methods section, from the metadata of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidRequestError

ResultFile = Annotated[
    Path, typer.Argument(help="Features, an RDM or a figure of RDMs, with its JSON file beside it.")
]
BibTeX = Annotated[bool, typer.Option(help="Append the BibTeX entries of the works that it cites.")]


def methods_text(file: ResultFile, bibtex: BibTeX = True) -> None:
    """Print a paragraph for a methods section, and BibTeX entries of the works that it cites.

    It needs no server: a file's metadata says what computed it.
    """
    from ..origins import file_sha256, read_origin
    from ..values.methods_text import subject_of
    from ..values.provenance import Provenance

    document = read_origin(file)
    if file_sha256(file) != document.get("file_sha256"):
        raise InvalidRequestError(
            f"{file} was changed after its metadata were written, so what computed it is not "
            "known: write it again."
        )
    known = [
        (Provenance.from_dict(facts), subject_of(facts, modules, count))
        for facts, modules, count in _origins(document)
    ]
    if not known:
        raise InvalidRequestError(
            f"The metadata of {file} don't say what computed it: pass the file of the features "
            "that it was made of."
        )
    texts = [one.methods_text(bibtex=False, **vars(subject)) for one, subject in known]
    if bibtex:  # models may cite the same works
        texts += [entry for one, _ in known for entry in one.bibtex().split("\n\n")]
    typer.echo("\n\n".join(dict.fromkeys(texts)))


_Known = tuple[Mapping[str, Any], list[str | None], int | None]
"""What metadata say of arrays, their modules, and the number of their rows."""


def _origins(document: Mapping[str, Any]) -> Iterator[_Known]:
    """Yield what computed the arrays of a file: together, by array, or by panel of a figure."""
    arrays = document.get("modules", {})
    if "model_sha256" in document:
        yield document, [one.get("module") for one in arrays.values()], _row_count(arrays.values())
    for name, facts in document.get("origins", {}).items():
        if "model_sha256" in facts:
            one = arrays.get(name, {})
            yield facts, [one.get("module")], _row_count([one])
    for facts in document.get("sources", {}).values():
        if isinstance(facts, Mapping) and "model_sha256" in facts:
            names = document.get("names")
            yield facts, [facts.get("module")], None if names is None else len(names)


def _row_count(arrays: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the number of rows of arrays; None if it is not known, or not the same."""
    counts = {one["shape"][0] for one in arrays if one.get("shape")}
    return counts.pop() if len(counts) == 1 else None
