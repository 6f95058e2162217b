"""What a job does about images that can't be used, once the others are complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..display.progress import say
from ..errors import REMOVED, BadImage, BadImagesError
from ..files import SKIPPED, write_skipped
from .notices import storage_errors

_ADVICE = (
    "repair or remove these images and repeat the call, which goes on from there, or leave them "
    "out with on_error='skip' (--on-error skip)."
)


def refuse_bad_images(
    skipped: Sequence[BadImage], on_error: str, where: Path, count: int | None = None
) -> None:
    """Raise BadImagesError for images without a row, but for those that the user left out.

    Nothing is raised if they are to be skipped, and there are others, whose rows are in `where`.
    `count` is the number of all images.
    """
    bad = [one for one in skipped if not one.is_known]
    if bad and len(skipped) == count:
        raise BadImagesError.of(bad, count, "There are no others.")
    if bad and on_error != "skip":
        text = f"The features of the other images are complete in {where}: {_ADVICE}"
        raise BadImagesError.of(bad, count, text)


def of_present(skipped: Sequence[BadImage]) -> list[BadImage]:
    """Return the bad images with their places among the images that were not removed."""
    found: list[BadImage] = []
    for number, one in enumerate(skipped):
        if one.reason != REMOVED:
            removed = number - len(found)
            found.append(replace(one, place=one.place - removed))
    return found


def report_skipped(skipped: Sequence[BadImage], folder: Path, row_count: int) -> None:
    """Write `skipped.txt` with a line per image without a row, and say so; remove an old one."""
    path = folder / SKIPPED
    with storage_errors(path):
        if not skipped:
            path.unlink(missing_ok=True)
            return
        write_skipped(path, skipped)
    say(
        f"{len(skipped)} of {len(skipped) + row_count} images left out, {row_count} have rows: "
        f"{path} says why."
    )
