"""Saves features in MATLAB's orders, larger than memory, resumed by the same call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..client import Client
from ..errors import InvalidRequestError
from ..formats import BY_ENDING
from ..formats.base import FEATURES, Column, FileFormat, Layout, Writer
from ..formats.hdf5_file import NewFile
from ..formats.mat import MAT
from ..formats.mat73 import add_cell, add_columns, add_matrix, add_text, fill, new_mat73, read_mat73
from ..formats.matlab_names import variable_names
from ..jobs import FolderOptions, Task, extract_to_folder
from ..jobs.feature_file import write_file
from ..values.model import as_model
from ..values.options import ExtractOptions
from .exchange import Exchange
from .orders import Order, find_order
from .request import image_root, read_images
from .streaming import DTYPES

BATCH_SIZE = 32
"""Images in a forward pass unless MATLAB chooses."""

_ENDING = ".mat"
_RESERVED = ("file_names", "module_names", "provenance", "output_as", "unit_index")


def save_features(
    client: Client,
    asked: Mapping[str, Any],
    *,
    modules: Sequence[str],
    options: ExtractOptions,
    exchange: Exchange,
    on_error: str = "raise",
) -> dict[str, Any]:
    """Write features to `asked["path"]`: a .mat file, or else a folder of chunks as in Python.

    Raises InvalidRequestError, such as for a file of another order or extraction.
    """
    path = _find_path(asked)
    if options.batch_size is None:  # jobs resume at multiples of it
        options = replace(options, batch_size=BATCH_SIZE)
    task = Task(
        model=as_model(asked["model"]),
        modules=tuple(modules),
        images=partial(read_images, asked["images"], exchange.pixels),
        options=options,
        flatten=bool(asked["flatten"]) and path.suffix.lower() != _ENDING,
        root=image_root(asked["images"]),
    )
    notices: dict[str, Any] = {"on_error": on_error, "progress": exchange.report}
    if path.suffix.lower() == _ENDING:
        form = _form_of_file(client, task, asked, path)
        write_file(client, task, path, form, **notices)
    else:
        extract_to_folder(client, task, path, options=FolderOptions(), **notices)
    return {"path": str(path)}


def _form_of_file(client: Client, task: Task, asked: Mapping[str, Any], path: Path) -> FileFormat:
    """Return the form of a .mat file. Raises InvalidRequestError if it has something else."""
    orders, provenance = _announce(client, task, asked)
    output = f"{asked['output_as']}{', flat' if asked['flatten'] else ''}"
    _check_old(path, output)
    content = _Content(tuple(orders), output, json.dumps(provenance, ensure_ascii=False))
    return FileFormat(
        "mat",
        "mat",
        holds_several=True,
        opener=partial(_open, content),
        reader=MAT.reader,
        dtypes=frozenset(DTYPES),
    )


def _find_path(asked: Mapping[str, Any]) -> Path:
    """Return where the features go: a .mat file, or with `native` also a folder."""
    if not asked["path"]:
        raise InvalidRequestError("`path` must name a .mat file, got an empty text.")
    path: Path = Path(asked.get("folder") or ".") / asked["path"]
    if path.suffix.lower() == _ENDING:
        return path
    if path.suffix.lower() in BY_ENDING:
        raise InvalidRequestError(
            f"`path` must end with .mat, got {asked['path']!r}: no other files are written; with "
            "'OutputAs', 'native' it may be a folder, whose name has no such ending."
        )
    if asked["output_as"] != "native":
        raise InvalidRequestError(
            "A folder gets files as Python writes them (npy, images first): `OutputAs` must be "
            f"native, got {asked['output_as']!r}. Choose it, or a file that ends with .mat."
        )
    return path


def _announce(
    client: Client, task: Task, asked: Mapping[str, Any]
) -> tuple[list[Order], dict[str, Any]]:
    """Return the order of each module, and the provenance, before any image is sent."""
    with closing(task.announcement(client, task.images())) as stream:
        orders = [
            find_order(
                asked["output_as"], name, shape, stream.axes[name], flatten=bool(asked["flatten"])
            )
            for name, shape in stream.row_shapes.items()
        ]
        return orders, stream.provenance.to_dict()


def _check_old(path: Path, output: str) -> None:
    """Refuse to replace a file of another order."""
    if not path.exists():
        return
    try:
        told = "".join(read_mat73(path, ("output_as",)).get("output_as", []))
    except (OSError, KeyError):
        told = ""
    if told != output:
        what = f"has features as {told!r}" if told else "is not a file of saveFeatures"
        raise InvalidRequestError(
            f"{path} {what}, not as {output!r}: remove it, or choose another file."
        )


@dataclass(frozen=True)
class _Content:
    """What a file has beside its rows: orders, the word for them, and the provenance."""

    orders: tuple[Order, ...]
    output: str
    provenance: str


class _Ordered:
    """Writes rows, as sent, into the arrays of an open file."""

    def __init__(
        self, file: NewFile, content: _Content, fills: Sequence[Callable[[int, Array], None]]
    ) -> None:
        self._file = file
        self._orders = content.orders
        self._fills = fills
        self._done = 0

    def write(self, rows: Sequence[Array]) -> None:
        """Write the next rows of every array."""
        for order, write, array in zip(self._orders, self._fills, rows, strict=True):
            values = np.ascontiguousarray(order.view(array), DTYPES[array.dtype.name])
            write(self._done, values.reshape(len(array), -1))
        self._file.check()
        self._done += len(rows[0])


@contextmanager
def _open(content: _Content, path: Path, layout: Layout) -> Iterator[Writer]:
    """Create a file whose arrays have MATLAB's dimensions."""
    names = variable_names((column.name or "model" for column in layout.columns), _RESERVED)
    with new_mat73(path) as file:
        if layout.columns[0].name != FEATURES:
            add_cell(file.root, "module_names", [column.name for column in layout.columns])
        add_cell(file.root, "file_names", layout.names or ())
        add_text(file.root, "provenance", content.provenance)
        add_text(file.root, "output_as", content.output)
        fills = [
            _add(file.root, name, column, order=order, count=layout.count)
            for name, column, order in zip(names, layout.columns, content.orders, strict=True)
        ]
        yield _Ordered(file, content, fills)


def _add(
    file: Any, name: str, column: Column, order: Order, count: int
) -> Callable[[int, Array], None]:
    """Add an empty array, and return what writes flat rows into it, from a row on."""
    dtype = DTYPES[column.dtype]
    if order.images_first:
        matrix = add_matrix(file, name, (count, *order.dims), dtype)

        def write_rows(start: int, values: Array) -> None:
            # `fill` takes rows in C order, whose dimensions are MATLAB's.
            fill(
                matrix,
                start,
                values.reshape(len(values), *order.dims[::-1]).transpose(
                    0, *range(len(order.dims), 0, -1)
                ),
            )

        return write_rows
    matrix = add_columns(file, name, (*order.dims, count), dtype)

    def write_columns(start: int, values: Array) -> None:
        matrix[start : start + len(values)] = values.reshape(len(values), *order.dims[::-1])

    return write_columns
