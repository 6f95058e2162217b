"""Reference RDMs of brains or behaviour, read and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, as_array
from ..errors import InvalidRequestError, UndefinedDistanceWarning
from .row_names import rows_of

UNNAMED = "reference"
"""Name of a single reference that was given without one."""

_IMAGE_DESCRIPTOR = "image"


@dataclass(frozen=True)
class Reference:
    """RDMs of the same images from one or more subjects.

    `rdms` is subjects x images x images, float64, symmetric; a pair of images that was not measured
    is NaN for all subjects. `images` are the names of the rows, if known.
    """

    name: str
    rdms: Float64Array
    images: tuple[str, ...] | None = None

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

    def of_images(self, images: Sequence[str]) -> Reference:
        """Return the RDMs of these images, in their order.

        Rows are found by name if names are known; otherwise there must be as many rows as images,
        in the same order. A name may lack its folders, or its ending too. Raises
        InvalidRequestError.
        """
        count = self.rdms.shape[1]
        if self.images is not None:
            rows = rows_of(images, self.images, self.name)
            return replace(self, rdms=self.rdms[:, rows][:, :, rows], images=tuple(images))
        if count != len(images):
            raise InvalidRequestError(
                f"Reference {self.name!r} has {count} images, but there are {len(images)}: pass "
                "RDMs of the same images in the same order, or the names of their rows as "
                "reference_images."
            )
        return replace(self, images=tuple(images))


def as_references(
    given: Any, reference_images: Sequence[str] | None = None
) -> tuple[Reference, ...]:
    """Return reference RDMs, checked, as `rsa` uses them.

    Args:
        given: An RDM (images x images), RDMs of subjects (subjects x images x images), an object of
            rsatoolbox with an RDM per subject, the path of a file as `save_features` writes them,
            a list of paths, or a mapping from names to any of these. A file of several arrays
            gives as many references.
        reference_images: Names of the rows; None takes those in an object of rsatoolbox, if any.

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
    names = None if reference_images is None else tuple(map(str, reference_images))
    found = [
        _reference(name, values, names or _image_names(values))
        for name, values in _by_name(given).items()
    ]
    if not found:
        raise InvalidRequestError("Pass at least one reference RDM.")
    return tuple(found)


def read_rdms(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by their names; a single array has the file's.

    The file is in a format of `save_features`. Only its ending is checked: raises
    InvalidRequestError.
    """
    from ..formats import BY_ENDING, FEATURES

    file_format = BY_ENDING.get(path.suffix.lower())
    if file_format is None:
        raise InvalidRequestError(
            f"{path} is not a file of RDMs: its ending must be one of {', '.join(BY_ENDING)}."
        )
    arrays: dict[str, Any] = dict(file_format.read(path))
    return {path.stem: arrays[FEATURES]} if list(arrays) == [FEATURES] else arrays


def _by_name(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): _load(values) for name, values in given.items()}
    if isinstance(given, (str, Path)):
        return read_rdms(Path(given))
    if _is_list_of_files(given):
        parts = [read_rdms(Path(path)) for path in given]
        names = [name for part in parts for name in part]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidRequestError(
                f"Two references are called {twice[0]!r}: pass a mapping, {{'name': path, ...}}."
            )
        return {name: values for part in parts for name, values in part.items()}
    return {UNNAMED: given}


def _is_list_of_files(given: Any) -> bool:
    is_list = isinstance(given, (list, tuple)) and bool(given)
    return is_list and all(isinstance(one, (str, Path)) for one in given)


def _load(values: Any) -> Any:
    if not isinstance(values, (str, Path)):
        return values
    arrays = read_rdms(Path(values))
    if len(arrays) != 1:
        raise InvalidRequestError(
            f"{values} contains {len(arrays)} arrays ({', '.join(arrays)}): pass the file without "
            "a name, and each array becomes a reference."
        )
    return next(iter(arrays.values()))


def _image_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of the images in an object of rsatoolbox, as `to_rdms` stores them."""
    descriptors = getattr(values, "pattern_descriptors", None) or {}
    names = descriptors.get(_IMAGE_DESCRIPTOR)
    return None if names is None else tuple(map(str, names))


def _reference(name: str, values: Any, images: tuple[str, ...] | None) -> Reference:
    rdms = _as_stack(name, values)
    if images is not None and len(images) != rdms.shape[1]:
        raise InvalidRequestError(
            f"Reference {name!r} must have a name per image ({rdms.shape[1]}), got {len(images)}."
        )
    for fault in _FAULTS:
        if (what := fault(rdms)) is not None:
            raise InvalidRequestError(f"Reference {name!r} {what}.")
    missing = np.isnan(rdms).any(axis=0)
    reference = Reference(name, np.where(missing, np.nan, _symmetric(rdms)), images)
    _warn_of_missing(reference)
    return reference


def _as_stack(name: str, values: Any) -> Float64Array:
    matrices = values.get_matrices() if hasattr(values, "get_matrices") else values
    try:
        rdms: Float64Array = as_array(matrices).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        what = f"Reference {name!r} is not an array of real numbers: {error}."
        raise InvalidRequestError(what) from error
    stack = rdms[None] if rdms.ndim == 2 else rdms
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or 0 in stack.shape:
        raise InvalidRequestError(f"Reference {name!r} {_wrong_shape(rdms.shape)}.")
    return stack


def _wrong_shape(shape: tuple[int, ...]) -> str:
    fault = f"must be images x images or subjects x images x images, got shape {shape}"
    if len(shape) == 3 and shape[0] == shape[1]:
        return f"{fault}: subjects must come first, as np.moveaxis(rdms, -1, 0) puts them"
    if len(shape) == 1:
        return f"{fault}: scipy.spatial.distance.squareform makes it square"
    return fault


def _too_few(rdms: Float64Array) -> str | None:
    count = rdms.shape[1]
    return None if count >= 3 else f"must have at least 3 images, got {count}"


def _infinite(rdms: Float64Array) -> str | None:
    found = np.argwhere(np.isinf(rdms))
    return f"is infinite at {_place(found[0])}: use NaN to leave out a pair" if len(found) else None


def _asymmetric(rdms: Float64Array) -> str | None:
    largest = np.nanmax(np.abs(rdms), initial=0.0)
    mirrored = rdms.transpose(0, 2, 1)
    same = np.isclose(rdms, mirrored, rtol=1e-5, atol=1e-6 * largest, equal_nan=True)
    if same.all():
        return None
    subject, row, column = np.argwhere(~same)[0]
    there, back = rdms[subject, row, column], rdms[subject, column, row]
    at, mirrored_at = _place((subject, row, column)), _place((subject, column, row))
    return f"must be symmetric, got {there:g} at {at}, but {back:g} at {mirrored_at}"


def _similar(rdms: Float64Array) -> str | None:
    """Find similarities instead of dissimilarities: no image differs most from itself."""
    diagonal = np.einsum("sii->si", rdms)
    if np.any(diagonal > 0) and np.all(diagonal[:, :, None] >= np.nan_to_num(rdms, nan=-np.inf)):
        return "has its largest values on the diagonal, so it contains similarities: pass 1 - rdm"
    return None


_FAULTS: tuple[Callable[[Float64Array], str | None], ...] = (
    _too_few,
    _infinite,
    _asymmetric,
    _similar,
)


def _place(index: Iterable[int]) -> str:
    subject, row, column = index
    return f"[{row}, {column}]" + (f" of subject {subject}" if subject else "")


def _symmetric(rdms: Float64Array) -> Float64Array:
    upper = np.triu(rdms, k=1)
    return upper + upper.transpose(0, 2, 1)


def _warn_of_missing(reference: Reference) -> None:
    count = reference.rdms.shape[1]
    pairs = count * (count - 1) // 2
    missing = pairs - int(reference.pairs.sum()) // 2
    if missing:
        warnings.warn(
            f"In reference {reference.name!r}, {missing:,} of {pairs:,} pairs of images are NaN "
            "and are left out.",
            UndefinedDistanceWarning,
            stacklevel=5,
        )
