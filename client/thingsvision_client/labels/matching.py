"""Rows of labelled objects, put in the order of images or of another object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..arrays import Array, as_array
from ..calls.caller import warn_caller
from ..calls.wording import quote
from ..errors import InvalidRequestError
from .memory import names_in
from .names import MOST_NAMED, are_counted, file_of, find_rows, rows_of, stem_of
from .objects import Labelled, Labels, read_labelled


@dataclass(frozen=True)
class Match:
    """The row of each image, and the labels that they were found by."""

    rows: tuple[int, ...]
    labels: Labels

    @property
    def changes_rows(self) -> bool:
        """Whether rows change places or are left out."""
        return list(self.rows) != list(range(len(self.labels.names)))


def match_rows(labels: Sequence[Labels], images: Sequence[str], what: str) -> Match | None:
    """Return the row of each image by the labels that name the images.

    None if no labels are names: rows are then in the order of the images. So they are if labels
    that are only remembered name other images, with a warning. Raises InvalidRequestError, which
    calls the owner of the labels `what`, such as "reference 'IT'", if names are those of other
    images, or of the same images in two orders.
    """
    usable = [one for one in labels if one.are_unique]
    texts = [one for one in usable if one.are_texts]
    for group in (texts, [one for one in usable if not one.are_texts]):
        if fits := [match for one in group if (match := _match(one, images)) is not None]:
            _check_agreement(fits, what)
            return fits[0]
    strange = _strange(labels, images)
    if strange is not None and strange.is_remembered:
        if not are_counted(images):
            _warn_of_other_images(strange, images, what)
    elif strange is not None:
        raise _mismatch(strange, images, what)
    return None


def check_axes(axes: Sequence[Sequence[Labels]], what: str) -> None:
    """Raise InvalidRequestError if two axes of the same images have different names or orders."""
    first, second = (_main_names(labels) for labels in axes)
    if first is None or second is None or first.names == second.names:
        return
    rows = find_rows(first.names, second.names) if first.are_unique else None
    if rows == list(range(len(first.names))):
        return
    how = "names" if rows is None else "orders"
    raise InvalidRequestError(
        f"Rows and columns of {what} must have the same names in the same order, got different "
        f"{how}: {quote(first.names, MOST_NAMED)} in {first.where}, but "
        f"{quote(second.names, MOST_NAMED)} in {second.where}. Put the columns in the "
        "order of the rows, as rdm.loc[names, names] does."
    )


def align_rows(first: Any, second: Any, *, axes: int, what: str) -> tuple[Array, Array]:
    """Return the values of two objects, the second's rows in the order of the first's.

    Rows are matched by name if both objects name them, or if it is known which images the rows of
    an array are; a warning says if rows change places. Otherwise they stay, with a warning if both
    are arrays known to be of the same images in different orders. `axes` is 2 for RDMs, whose
    columns are images as well. Raises InvalidRequestError, which calls the objects `what`, if
    their names don't match.
    """
    one, other = read_labelled(first), read_labelled(second)
    if one is not None and other is None:
        other = of_known(second, axes)
    elif other is not None and one is None:
        one = of_known(first, axes)
    arrays = tuple(
        as_array(item.values if item else given) for item, given in ((one, first), (other, second))
    )
    for place, item in (("first", one), ("second", other)):
        if item is not None:
            image_labels(item, axes, f"the {place} of {what}")
    if one is None or other is None:
        _warn_of_known_order(first, second, what)
        return arrays[0], arrays[1]
    match = _match_objects(one, other, axes, what)
    if match is None or not match.changes_rows or len(match.rows) != len(match.labels.names):
        return arrays[0], arrays[1]
    warn_of_order(f"The second of {what}", match)
    rows = list(match.rows)
    values = arrays[1][..., rows, :][..., rows] if axes == 2 else arrays[1][rows]
    return arrays[0], values


def of_known(array: Any, axes: int) -> Labelled | None:
    """Return an array with the names of its rows; None if they are not known.

    `axes` is 2 for RDMs, 1 for features.
    """
    names = names_in(array)
    if names is None:
        return None
    labels = (Labels("what was extracted", names, is_remembered=True),)
    return Labelled(array, (labels,) * axes)


def image_labels(item: Labelled, axes: int, what: str) -> tuple[Labels, ...]:
    """Return the labels of the images of an RDM (`axes` is 2: the last two) or of features (1)."""
    if axes == 1:
        return item.rows
    if len(item.axes) < 2:
        return ()
    check_axes(item.axes[-2:], what)
    # The labels of both axes count: what names rows may lie beside the columns alone.
    return tuple(dict.fromkeys((*item.axes[-2], *item.axes[-1])))


def warn_of_order(what: str, match: Match) -> None:
    """Warn that rows were put in the order of the images, or left out."""
    left_out = len(match.labels.names) - len(set(match.rows))
    rest = f"; {left_out} rows of other images are left out" if left_out else ""
    warn_caller(
        f"{what} has its rows in another order: they are matched by the names in "
        f"{match.labels.where}{rest}.",
    )


def _warn_of_known_order(first: Any, second: Any, what: str) -> None:
    """Warn if arrays have rows of the same images, as far as is known, in different orders."""
    ours, theirs = names_in(first), names_in(second)
    if ours is None or theirs is None or ours == theirs or sorted(ours) != sorted(theirs):
        return
    warn_caller(
        f"{what} have rows of the same images in different orders ({quote(ours, 2)}; "
        f"{quote(theirs, 2)}), and are compared row by row, as they are: extract both with the "
        "same `file_names`, or put the rows in one order.",
    )


def _warn_of_other_images(labels: Labels, images: Sequence[str], what: str) -> None:
    warn_caller(
        f"{what[:1].upper()}{what[1:]} was computed from other images, as far as is known "
        f"({quote(labels.names, 2)}), than it is compared with ({quote(images, 2)}): rows are "
        "compared in the order in which they are. Pass names if that is not their order.",
    )


def _match_objects(one: Labelled, other: Labelled, axes: int, what: str) -> Match | None:
    ours = image_labels(one, axes, f"the first of {what}")
    theirs = image_labels(other, axes, f"the second of {what}")
    named = [labels for labels in ours if labels.are_unique and not labels.are_counted]
    if not named:  # positions, which are names as well if only the other's rows were moved
        named = [labels for labels in ours if labels.are_counted]
    faults = []
    for labels in named:
        try:
            return match_rows(theirs, labels.names, f"the second of {what}")
        except InvalidRequestError as error:
            faults.append(error)
    if faults and not named[0].are_counted:
        raise faults[0]
    return None


def _match(labels: Labels, images: Sequence[str]) -> Match | None:
    """Return the row of each image by these labels, None if they don't name the images.

    Counted labels are positions, unless the images are called so, and are all there.
    """
    if labels.are_counted and (are_counted(images) or len(images) != len(labels.names)):
        return None
    rows = find_rows(images, labels.names)
    return None if rows is None else Match(tuple(rows), labels)


def _check_agreement(fits: Sequence[Match], what: str) -> None:
    first = fits[0]
    for other in fits[1:]:
        if other.rows != first.rows:
            raise InvalidRequestError(
                f"{what[:1].upper()}{what[1:]} names its rows in two orders: {first.labels.where} "
                f"has {quote(first.labels.names, MOST_NAMED)}, {other.labels.where} has "
                f"{quote(other.labels.names, MOST_NAMED)}. Remove the wrong names, or put rows "
                "and columns in the same order."
            )


def _strange(labels: Sequence[Labels], images: Sequence[str]) -> Labels | None:
    """Return labels that identify rows of something else than these images."""
    for one in labels:
        is_name = one.is_main or (one.are_texts and one.are_unique)
        if is_name and not one.are_counted:
            return one
    bare = {part for image in images for part in (image, file_of(image), stem_of(image))}
    # Names of several rows each, such as an image per session.
    repeated = (one for one in labels if one.are_texts and not one.are_unique)
    return next((one for one in repeated if not bare.isdisjoint(one.names)), None)


def _main_names(labels: Sequence[Labels]) -> Labels | None:
    return next((one for one in labels if one.is_main and not one.are_counted), None)


def _mismatch(labels: Labels, images: Sequence[str], what: str) -> InvalidRequestError:
    if labels.are_positions:
        return InvalidRequestError(
            f"{what[:1].upper()}{what[1:]} has the numbers from 0 to {len(labels.names) - 1} in "
            f"another order in {labels.where}, as sorting leaves them, and images are not called "
            "so: put rows and columns back in their order (in pandas, "
            "rdm.sort_index(axis=0).sort_index(axis=1)), name them as the images are named, or, if "
            "the rows are in the order of the images, pass the values alone, as an array."
        )
    advice = (
        f"These are the names in {labels.where}: rename them as the images are named, or, if the "
        "rows are in the order of the images, pass the values alone, as an array."
    )
    if not labels.are_unique:
        twice = next(name for name in labels.names if labels.names.count(name) > 1)
        return InvalidRequestError(
            f"{what[:1].upper()}{what[1:]} has several rows called {twice!r}. {advice}"
        )
    if are_counted(images):
        advice = "The images have no names, only numbers: pass names to Client.rdm_of. " + advice
    try:
        rows_of(images, labels.names, what)
    except InvalidRequestError as error:
        return InvalidRequestError(f"{error} {advice}")
    return InvalidRequestError(  # counted names that are not all there
        f"{what[:1].upper()}{what[1:]} has {len(labels.names)} rows, but there are {len(images)} "
        f"images. {advice}"
    )
