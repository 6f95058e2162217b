"""The paragraph for a methods section, from the metadata of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidRequestError


def methods_text(
    file: Annotated[
        Path,
        typer.Argument(help="Features, an RDM or a figure of RDMs, with its JSON file beside it."),
    ],
    bibtex: Annotated[
        bool, typer.Option(help="Append the BibTeX entries of the works that it cites.")
    ] = True,
) -> None:
    """Print a paragraph for a methods section, and BibTeX entries of the works that it cites.

    It needs no server: a file's metadata says what computed it.
    """
    from ..origins import file_sha256, read_origin
    from ..values.provenance import Provenance

    document = read_origin(file)
    if file_sha256(file) != document.get("file_sha256"):
        raise InvalidRequestError(
            f"{file} was changed after its metadata were written, so what computed it is not "
            "known: write it again."
        )
    known = [Provenance.from_dict(one) for one in _origins(document)]
    if not known:
        raise InvalidRequestError(
            f"The metadata of {file} don't say what computed it: pass the file of the features "
            "that it was made of."
        )
    texts = [one.methods_text(bibtex=False) for one in known]
    if bibtex:  # models may cite the same works
        texts += [entry for one in known for entry in one.bibtex().split("\n\n")]
    typer.echo("\n\n".join(dict.fromkeys(texts)))


def _origins(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what computed the arrays of a file: together, by array, or by panel of a figure."""
    parts = [document]
    for group in ("origins", "sources"):
        parts += document.get(group, {}).values()
    yield from (one for one in parts if isinstance(one, Mapping) and "model_sha256" in one)
