"""Describes what changed since a job began, or since features were written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..images.image import SentImage
from ..values.options import OPTIONS
from ..values.preprocessing import Preprocessing
from .fingerprint import Fingerprint, fingerprint_of


def of_values(old: Any, new: Any, name: str = "") -> list[str]:
    """Return the differences between JSON values; between objects, field by field."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        prefix = f"{name}." if name else ""
        # What was written before a field existed lacks it: the default was used.
        defaults = _DEFAULTS.get(name, {})
        return [
            line
            for key in dict.fromkeys([*old, *new])
            for line in of_values(
                old.get(key, defaults.get(key)), new.get(key, defaults.get(key)), f"{prefix}{key}"
            )
        ]
    return [] if old == new else [f"{name} was {old!r} and is {new!r} now"]


_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "": {key: option.default for key, option in OPTIONS.items()},
    "preprocessing": Preprocessing().to_dict(),
}
"""What a field is if it is missing, by the name of the object that lacks it."""


def of_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between what a server reported then and now.

    Devices of one kind give the same bits, so a device's number is not a difference. Nor are the
    cores of passes, which are asked for again, and change a value's last bits at most, as other
    hardware does.
    """
    return of_values(_comparable(old), _comparable(new))


def of_what_is_computed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences of `of_facts`, without those between servers that may mix."""
    return of_facts(*({**facts, **_OF_SERVERS} for facts in (old, new)))


def of_names(old: Sequence[str] | None, new: Sequence[str] | None) -> list[str]:
    """Return the first difference between the images' names, if both are known."""
    if old is None or new is None or list(old) == list(new):
        return []
    lost, added = _only(old, new), _only(new, old)
    examples = [f"{name!r} is gone" for name in lost] + [f"{name!r} is new" for name in added]
    if len(old) != len(new):
        named = f" ({', '.join(examples)})" if examples else ""
        return [f"there were {len(old)} images and are {len(new)} now{named}"]
    if examples:
        return [f"some images are others ({', '.join(examples)})"]
    return [
        f"image {row} was {was!r} and is {now!r} now"
        for row, (was, now) in enumerate(zip(old, new, strict=True))
        if was != now
    ][:1]


def of_images(
    images: Iterator[SentImage],
    recorded: Iterable[Fingerprint],
    on_progress: Callable[[int], None],
) -> list[str]:
    """Read images again, and return the first difference from how they were recorded.

    Takes exactly the recorded images from `images`. `on_progress` is called with the number of
    images read.
    """
    for row, was in enumerate(recorded):
        image = next(images, None)
        if image is None:
            return [f"image {row} was {was.name!r}, and there are only {row} images now"]
        if image.name != was.name:
            return [f"image {row} was {was.name!r} and is {image.name!r} now"]
        now = fingerprint_of(image)
        if now.sha256 != was.sha256:
            old, new = was.sha256, now.sha256
            return [f"image {row}, {was.name!r}, had SHA-256 {old} and has {new} now"]
        on_progress(row + 1)
    return []


def _only(these: Iterable[str], others: Iterable[str]) -> list[str]:
    there = set(others)
    return [name for name in these if name not in there][:3]


_LAST_BITS = ("cores", "hardware", "server", "servers", "split_batches")
"""What changes the last bits of values, and nothing else."""

_OF_SERVERS = {"device": "", "framework": "", "server_version": ""}
"""What else differs between servers that compute one extraction together (`ServerFacts`)."""


def _comparable(facts: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in facts.items() if name not in _LAST_BITS}
    return {**kept, "device": str(facts["device"]).partition(":")[0]}
