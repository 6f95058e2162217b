"""What a call does about images that can't be used: it stops, ends with an error, or skips them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..calls.arguments import choose
from ..display.progress import say
from ..errors import BadImage, BadImagesError, ImageError, bad_text

if TYPE_CHECKING:
    from ..images.queue import ImageQueue

RAISE, SKIP = "raise", "skip"
ON_ERROR = (RAISE, SKIP)
"""What users choose: an error at the end that has the other images' rows, or no error."""

STOP = "stop"
"""The first bad image ends the call."""

QUIET = "quiet"
"""Bad images are skipped; the caller looks at the headers, and says which are bad."""

_ADVICE = (
    "The features of the other images are in this error's `result`; on_error='skip' leaves bad "
    "images out."
)
_ADVICE_OF_STREAM = (
    "The rows of the other images came before; on_error='skip' leaves bad images out."
)
_ADVICE_OF_ONE = (
    "Repair or remove it; on_error='skip' (--on-error skip) leaves out images that can't be used."
)
_ADVICE_IN_ADVANCE = "Repair or remove them, or leave them out with on_error='skip'."


def check_on_error(value: Any, *, stops: bool = False) -> str:
    """Return what a user chose. Raises InvalidRequestError.

    If the call `stops`, 'raise' means that the first bad image ends it.
    """
    chosen = value if value in (STOP, QUIET) else choose("on_error", value, ON_ERROR)
    return STOP if stops and chosen == RAISE else str(chosen)


def prepare(header: Any, queue: ImageQueue, on_error: str) -> ImageQueue:
    """Look at the headers of all images, and return the images to send, with holes.

    `header` is that of an extraction, which is told to skip images that are found bad later. If
    the call stops, raises BadImagesError before anything is sent; otherwise says which are bad.
    """
    if queue.tensor_shape is not None:
        return queue
    header.skip_bad_images = on_error != STOP
    if on_error == QUIET:
        return queue
    from ..images.inspection import inspect_headers  # it loads numpy

    checked, bad = inspect_headers(queue)
    if not bad:
        return queue
    if on_error == STOP:
        raise BadImagesError.of(bad, queue.count, _ADVICE_IN_ADVANCE)
    if on_error == RAISE and len(bad) != queue.count:
        say(f"{bad_text(bad, queue.count)}. The call goes on with the others.")
    return checked


@contextmanager
def advise_to_skip(on_error: str) -> Iterator[None]:
    """Say in the error of the image that ends a call how the call can do without it."""
    try:
        yield
    except BadImagesError:
        raise
    except ImageError as error:
        if on_error != STOP:
            raise
        raise error.with_text(_ADVICE_OF_ONE) from None


def settle(bad: Sequence[BadImage], row_count: int, on_error: str, result: Any = None) -> None:
    """Raise BadImagesError, or warn, of the images that were skipped by a call that is complete."""
    count = row_count + len(bad)
    bad = [one for one in bad if not one.is_known]
    if not bad:
        return
    if not row_count and on_error != QUIET:
        raise BadImagesError.of(bad, count, "There are no others.")
    if on_error == RAISE:
        advice = _ADVICE_OF_STREAM if result is None else _ADVICE
        raise BadImagesError.of(bad, count, advice, result)
    if on_error == SKIP:
        say(f"{bad_text(bad, count)}. They are left out: the result has {row_count} rows.")
