"""Reference RDMs of brains or behaviour, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array
from ..calls.arguments import expand_home
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError, UndefinedDistanceWarning
from ..labels import (
    Labelled,
    Labels,
    Match,
    are_reordered,
    image_labels,
    list_names,
    match_rows,
    of_known,
    read_labelled,
    rows_of,
    texts_of,
    warn_of_order,
)
from .rdm_faults import first_fault, wrong_shape
from .rdm_files import read_rdms
from .rdm_values import as_real_numbers, mirror_upper_half

UNNAMED = "reference"
"""Name of a single reference that was given without one."""


References: TypeAlias = Any
"""RDMs in any form: an array, a path, a mapping of names to them, or a list."""


@dataclass(frozen=True)
class Reference:
    """RDMs of the same images from one or more subjects.

    `rdms` is subjects x images x images, float64, symmetric; a pair of images that was not measured
    is NaN for all subjects. `images` are the names of the rows, if a user gave them; `labels` are
    the names that the object or the file carries.
    """

    name: str
    rdms: Float64Array
    images: tuple[str, ...] | None = None
    labels: tuple[Labels, ...] = ()

    @property
    def subject_count(self) -> int:
        """Number of subjects."""
        return len(self.rdms)

    @property
    def pairs(self) -> npt.NDArray[np.bool_]:
        """Which pairs were measured, images x images; the diagonal is False."""
        found: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(self.rdms), axis=0)
        np.fill_diagonal(found, val=False)
        return found

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the values, float64 in C order, little-endian."""
        return sha256(np.ascontiguousarray(self.rdms, "<f8").tobytes()).hexdigest()

    @property
    def has_names(self) -> bool:
        """Whether rows are matched by name, and not by their order."""
        return self.images is not None or any(not one.are_counted for one in self.labels)

    def match(self, images: Sequence[str]) -> Match | None:
        """Return the row of each image, by name; None if rows are in the order of the images.

        Rows are found by name if names are known; otherwise there must be as many rows as images,
        in the same order. A name may lack its folders, or its ending too. Raises
        InvalidRequestError.
        """
        what = f"reference {self.name!r}"
        if self.images is not None:
            rows = rows_of(images, self.images, what)
            return Match(tuple(rows), Labels("reference_images", self.images))
        found = match_rows(self.labels, images, what)
        if found is None:
            self.check_count(len(images))
        return found

    def check_count(self, image_count: int) -> None:
        """Raise InvalidRequestError unless there are as many rows as images."""
        count = self.rdms.shape[1]
        if count != image_count:
            raise InvalidRequestError(
                f"Reference {self.name!r} has {count} images, but there are {image_count}: pass "
                "RDMs of the same images in the same order, or the names of their rows as "
                "reference_images."
            )

    def of_images(self, images: Sequence[str]) -> Reference:
        """Return the RDMs of these images, in their order; raises what `match` raises.

        A warning says if rows change places by names that nobody passed as `reference_images`.
        """
        match = self.match(images)
        if match is None:
            return replace(self, images=tuple(images), labels=())
        if self.images is None and match.changes_rows:
            warn_of_order(f"Reference {self.name!r}", match)
        rows = list(match.rows)
        return replace(self, rdms=self.rdms[:, rows][:, :, rows], images=tuple(images), labels=())


@check_arguments
def as_references(
    given: References, reference_images: Sequence[str] | None = None
) -> tuple[Reference, ...]:
    """Return reference RDMs, checked, as `rsa` uses them.

    Args:
        given: An RDM (images x images), RDMs of subjects (subjects x images x images), a table of
            pandas, an array of xarray, an object of rsatoolbox with an RDM per subject, what
            `Client.rdm` returned, the path of a file as `save_features` writes them or of a csv
            table, a list of paths, a list of any other of these with a subject each, or a mapping
            from names to any of these. A file of several arrays gives as many references.
        reference_images: Names of the rows; None takes the names that objects and files carry.

    Returns:
        A reference per RDM or set of subjects: float64, symmetric, with NaN for unmeasured pairs.

    Raises:
        InvalidRequestError: An array that is not an RDM, or names that don't fit it.

    Warns:
        UndefinedDistanceWarning: Says how many pairs were not measured.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import compute_rdm
        from thingsvision_client.analysis.references import as_references

        subjects = np.random.default_rng(0).normal(size=(3, 10, 50))
        brain = np.stack([compute_rdm(features) for features in subjects])
        print(as_references({"human IT": brain})[0].subject_count)
        ```

    """
    names = None
    if reference_images is not None:
        names = texts_of(list_names("reference_images", reference_images))
    found = [_reference(name, values, names) for name, values in _by_name(given).items()]
    if not found:
        raise InvalidRequestError("Pass at least one reference RDM.")
    return tuple(found)


def _by_name(given: Any) -> dict[str, Any]:
    if isinstance(given, (str, Path)):
        return read_rdms(Path(given))
    if _is_list_of_files(given):
        return _join_parts([read_rdms(Path(path)) for path in given])
    if isinstance(given, Mapping):
        parts = [_with_title(str(name), _load(values)) for name, values in given.items()]
        return _join_parts(parts)
    return _with_title("", given)


def _join_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for part in parts for name in part]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequestError(
            f"Two references are called {twice[0]!r}: pass a mapping, {{'name': path, ...}}."
        )
    return {name: values for part in parts for name, values in part.items()}


def _with_title(name: str, values: Any) -> dict[str, Any]:
    """Return RDMs by name; what `Client.rdm` returned has an RDM per module."""
    if not isinstance(getattr(values, "rdms", None), Mapping):
        return {name or UNNAMED: values}
    labels = (Labels("its images", tuple(values.images)),)
    rdms = {module: Labelled(rdm, (labels, labels)) for module, rdm in values.rdms.items()}
    if not name:
        return rdms
    return {name if len(rdms) == 1 else f"{name} {module}": rdm for module, rdm in rdms.items()}


def _is_list_of_files(given: Any) -> bool:
    is_list = isinstance(given, (list, tuple)) and bool(given)
    return is_list and all(isinstance(one, (str, Path)) for one in given)


def _load(values: Any) -> Any:
    if _is_list_of_files(values):
        return [_load(path) for path in values]
    if not isinstance(values, (str, Path)):
        return values
    arrays = read_rdms(Path(expand_home(values)))
    if len(arrays) != 1:
        raise InvalidRequestError(
            f"{values} contains {len(arrays)} arrays ({', '.join(arrays)}): pass the file without "
            "a name, and each array becomes a reference."
        )
    return next(iter(arrays.values()))


def _reference(name: str, values: Any, images: tuple[str, ...] | None) -> Reference:
    item = _stack_subjects(name, values)
    rdms = _as_stack(name, item)
    labels = image_labels(item, 2, f"reference {name!r}")
    if images is not None and len(images) != rdms.shape[1]:
        raise InvalidRequestError(
            f"Reference {name!r} must have a name per image ({rdms.shape[1]}), got {len(images)}."
        )
    if images is not None:
        _check_contradiction(name, images, labels)
    if (what := first_fault(rdms)) is not None:
        raise InvalidRequestError(f"Reference {name!r} {what}.")
    missing = np.isnan(rdms).any(axis=0)
    values = np.where(missing, np.nan, mirror_upper_half(rdms))
    reference = Reference(name, values, images, labels if images is None else ())
    _warn_of_missing(reference)
    return reference


def _stack_subjects(name: str, values: Any) -> Labelled:
    """Return values with their labels; subjects of a list have the rows of the first."""
    if (found := read_labelled(values)) is not None:
        return _subjects_first(found)
    if not isinstance(values, (list, tuple)):
        return of_known(values, 2) or Labelled(values, ((), ()))
    subjects = [read_labelled(one) for one in values]
    known = [one or of_known(given, 2) for one, given in zip(subjects, values, strict=True)]
    if all(known):
        subjects = known
    named = [one for one in subjects if one is not None]
    if not named:
        return Labelled(values, ((), ()))
    if len(named) < len(subjects):
        raise InvalidRequestError(
            f"Reference {name!r} has names for {len(named)} of {len(subjects)} subjects: pass "
            "names for all, or arrays alone."
        )
    whats = [f"subject {number} of reference {name!r}" for number in range(len(named))]
    labels = image_labels(named[0], 2, whats[0])
    stacks = [_as_stack(name, named[0])]
    for subject, what in zip(named[1:], whats[1:], strict=True):
        stacks.append(
            _in_order(_as_stack(name, subject), image_labels(subject, 2, what), labels, what)
        )
    if len({stack.shape[1:] for stack in stacks}) > 1:
        shapes = sorted({stack.shape[1:] for stack in stacks})
        raise InvalidRequestError(
            f"All subjects of reference {name!r} must have the same images, got shapes {shapes}."
        )
    return Labelled(np.concatenate(stacks), ((), labels, labels))


def _in_order(
    rdms: Float64Array, labels: Sequence[Labels], wanted: Sequence[Labels], what: str
) -> Float64Array:
    """Return a subject's RDMs with the rows in the order of the first subject's."""
    for one in wanted:
        if one.are_unique and not one.are_counted:
            match = match_rows(labels, one.names, what)
            if match is None or len(match.rows) != rdms.shape[1]:
                raise InvalidRequestError(
                    f"{what[:1].upper()}{what[1:]} must have the images of the first subject, "
                    "under the same names."
                )
            rows = list(match.rows)
            return rdms[:, rows][:, :, rows]
    return rdms


def _subjects_first(item: Labelled) -> Labelled:
    """Return RDMs of subjects with the two axes that have the same names at the end."""
    if len(item.axes) != 3:
        return item
    names = [{one.names for one in labels if not one.are_counted} for labels in item.axes]
    pairs = [(0, 1, 2), (0, 2, 1), (1, 2, 0)]
    same = [(a, b, rest) for a, b, rest in pairs if names[a] & names[b]]
    if len(same) != 1:
        return item
    first, second, rest = same[0]
    values = np.transpose(np.asarray(item.values), (rest, first, second))
    return Labelled(values, (item.axes[rest], item.axes[first], item.axes[second]))


def _check_contradiction(name: str, images: Sequence[str], labels: Sequence[Labels]) -> None:
    """Raise InvalidRequestError if labels have the same names in another order."""
    for one in labels:
        if one.are_unique and not one.are_counted and are_reordered(images, one.names):
            raise InvalidRequestError(
                f"`reference_images` must agree with the names that reference {name!r} carries, "
                f"got another order than in {one.where}: leave reference_images out."
            )


def _as_stack(name: str, item: Labelled) -> Float64Array:
    rdms = as_real_numbers(f"Reference {name!r}", item.values)
    stack = rdms[None] if rdms.ndim == 2 else rdms
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or 0 in stack.shape:
        raise InvalidRequestError(f"Reference {name!r} {wrong_shape(rdms.shape)}.")
    return stack


def _warn_of_missing(reference: Reference) -> None:
    count = reference.rdms.shape[1]
    pairs = count * (count - 1) // 2
    missing = pairs - int(reference.pairs.sum()) // 2
    if missing:
        warn_caller(
            f"In reference {reference.name!r}, {missing:,} of {pairs:,} pairs of images are NaN "
            "and are left out.",
            UndefinedDistanceWarning,
        )
