"""Names of rows: which objects carry them, how they match, and which arrays have them."""

from .matching import Match, align_rows, image_labels, match_rows, of_known, warn_of_order
from .memory import KnownRows, keep_rows, known_rows, names_in, remember_rows
from .names import (
    are_counted,
    are_reordered,
    column_of,
    find_rows,
    list_names,
    numbered_names,
    plain_name,
    rows_of,
)
from .objects import (
    Labelled,
    Labels,
    has_only_positions,
    labels_in,
    read_labelled,
    row_names,
    texts_of,
)

__all__ = [
    "KnownRows",
    "Labelled",
    "Labels",
    "Match",
    "align_rows",
    "are_counted",
    "are_reordered",
    "column_of",
    "find_rows",
    "has_only_positions",
    "image_labels",
    "keep_rows",
    "known_rows",
    "read_labelled",
    "labels_in",
    "list_names",
    "match_rows",
    "names_in",
    "numbered_names",
    "of_known",
    "plain_name",
    "remember_rows",
    "row_names",
    "rows_of",
    "texts_of",
    "warn_of_order",
]
