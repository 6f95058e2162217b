"""Images that can't be used, and the error that names all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .tree import ImageError

REMOVED, LEFT_OUT = "was removed", "was left out"
"""Reasons of images that are not in the list any more; in their batches they leave holes."""


@dataclass(frozen=True)
class BadImage:
    """An image that can't be used.

    Attributes:
        place: Its place in the list of images as given, from 0.
        name: Its name.
        reason: What is wrong with it, such as `is broken: image file is truncated`.

    Example:
        ```python
        from thingsvision_client import Client
        from thingsvision_client.errors import BadImagesError

        try:
            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        except BadImagesError as error:
            for image in error.bad:
                print(image.place, image.name, image.reason)
            extraction = error.result  # of the other images
        print(extraction.features["features.10"].shape)
        ```

    """

    place: int
    name: str
    reason: str

    @property
    def is_known(self) -> bool:
        """Whether the user knows: the image was removed since, or left out of its dataset."""
        return self.reason.startswith((REMOVED, LEFT_OUT))

    def to_dict(self) -> dict[str, Any]:
        """Return the image as metadata has it, in values that JSON can hold.

        Returns:
            `place`, `name` and `reason`.

        Example:
            ```python
            from thingsvision_client.errors import BadImage

            print(BadImage(3, "cat.jpg", "is empty (0 bytes)").to_dict())
            ```

        """
        return {"place": self.place, "name": self.name, "reason": self.reason}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BadImage:
        """Return the image of what `to_dict` returned.

        Args:
            values: `place`, `name` and `reason`; metadata may have more, which is left out.

        Returns:
            The image.

        Example:
            ```python
            from thingsvision_client import Client, read_origin, save_features
            from thingsvision_client.errors import BadImage

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            save_features(extraction.features["features.10"], "results", "npy")
            left_out = read_origin("results/features.npy").get("skipped", [])
            print([BadImage.from_dict(image) for image in left_out])
            ```

        """
        return cls(values["place"], values["name"], values["reason"])

    def __str__(self) -> str:
        return f"image {self.place} ({self.name!r}) {self.reason}"


class BadImagesError(ImageError):
    """Some images can't be used. The call went on with the others, and ends with this error.

    `bad` has a BadImage for each of them. `result` is what the call would have returned for the
    others: features without the rows of bad images. It is None where features went to files, or no
    image could be used.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        field: str = "",
        subject: str = "",
        bad: Sequence[BadImage] = (),
        result: Any = None,
    ) -> None:
        super().__init__(message, request_id=request_id, field=field, subject=subject)
        self.bad = tuple(bad)
        self.result = result

    @classmethod
    def of(
        cls, bad: Sequence[BadImage], count: int | None, advice: str, result: Any = None
    ) -> BadImagesError:
        """Return the error of these images, of so many.

        Args:
            bad: The images.
            count: Number of all images, or None.
            advice: A sentence on what became of the others, and what can be done.
            result: What the call would have returned for the others.

        Returns:
            The error, which names the first images with their places and reasons.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            print(BadImagesError.of(bad, 9, "Repair it."))
            ```

        """
        return cls(f"{bad_text(bad, count)}. {advice}", subject=bad[0].name, bad=bad, result=result)

    def with_text(self, text: str) -> BadImagesError:
        """Do as in ThingsvisionError.

        Args:
            text: The sentence, with its full stop.

        Returns:
            An error with the same attributes.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            error = BadImagesError.of(bad, 9, "Repair it.")
            print(error.with_text("This was the third folder."))
            ```

        """
        return self._copy(str(super().with_text(text)))

    def with_result(self, result: Any) -> BadImagesError:
        """Return the same error with another result.

        Args:
            result: What the call would have returned for the other images.

        Returns:
            An error with the same text.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            error = BadImagesError.of(bad, 9, "Repair it.")
            print(error.with_result([0.5]).result)
            ```

        """
        return self._copy(str(self), result=result)

    def _copy(self, text: str, **changes: Any) -> BadImagesError:
        """Return an error of another text, with all other attributes."""
        error = BadImagesError(text)
        vars(error).update({**vars(self), **changes})
        return error


_MOST_BAD = 10


def bad_text(bad: Sequence[BadImage], count: int | None) -> str:
    """Return a sentence that lists images that can't be used, without its full stop.

    Args:
        bad: The images.
        count: Number of all images, or None.

    Returns:
        The first images with their places and reasons, and how many more there are.

    Example:
        ```python
        from thingsvision_client.errors import BadImage, bad_text

        print(bad_text([BadImage(3, "cat.jpg", "is empty (0 bytes)")], 9))
        ```

    """
    number = f"{len(bad)} of {count}" if count is not None else f"{len(bad)}"
    noun = "image" if len(bad) == 1 and count in (None, 1) else "images"
    shown = "; ".join(map(str, bad[:_MOST_BAD]))
    more = f"; and {len(bad) - _MOST_BAD} more" if len(bad) > _MOST_BAD else ""
    return f"{number} {noun} can't be used: {shown}{more}"
