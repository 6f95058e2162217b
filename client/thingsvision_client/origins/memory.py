"""The origin of arrays, remembered as long as they live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.arguments import expand_home
from ..calls.signatures import check_arguments
from ..images.queue import ImageQueue, queue_images
from ..labels import are_counted, known_rows, remember_rows
from .description import Request, describe
from .fingerprint import record_fingerprints

if TYPE_CHECKING:
    from ..arrays import Array
    from ..images.queue import Images
    from ..rpc.extraction import Extraction
    from ..values.options import ExtractOptions
    from .fingerprint import Fingerprint


def remember(array: Array, origin: Mapping[str, Any]) -> None:
    """Remember the origin of an array of images x shape as long as it, or a view of it, lives.

    `origin` has all that `describe` returns, `module`, `image_count`, and `images`: a Fingerprint
    for each row.
    """
    names = [image.name for image in origin["images"]]
    # Rows of ready inputs have numbers instead of names.
    is_named = origin.get("input") != "tensor" or not are_counted(names)
    remember_rows(array, names if is_named else None, dict(origin))


@check_arguments
def origin_of(array: Array) -> Mapping[str, Any] | None:
    """Return the origin of an array, or of whole rows of one.

    Extractors and `Client.extract` remember the origin of the arrays that they return, as long as
    their values stay the same; a copy has none.

    Args:
        array: Features, images x shape.

    Returns:
        Model, preprocessing, options and versions; `rows`, which is [first, after the last] of the
        extraction; and `images`, the name and SHA-256 of each row. None if the origin is not known.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, origin_of

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        features = extractor.extract_features(batches, "features.10")
        print(origin_of(features[:2])["images"])
        ```

    """
    known = known_rows(array)
    if known is None or known.origin is None:
        return None
    return _part(known.origin, known.start, known.stop)


def _part(origin: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    images = [image.to_dict() for image in origin["images"][start:stop]]
    return {**origin, "rows": [start, stop], "images": images}


class OriginRecorder:
    """Records which images are sent, for the origin of the features that come back.

    `queue` are the images to send: `images` as `Client.extract` takes them. Nothing is recorded of
    a queue, whose owner does it.
    """

    def __init__(self, images: Images | ImageQueue, options: ExtractOptions) -> None:
        self.queue = queue_images(images)
        self._options = options
        self._sent: Iterable[Fingerprint] | None = None
        self._root: Path | None = None
        if isinstance(images, ImageQueue):
            return
        self.queue, self._sent = record_fingerprints(self.queue)
        if isinstance(images, (str, Path)):
            place = Path(expand_home(images))
            self._root = place if place.is_dir() else place.parent

    def remember(self, extraction: Extraction) -> None:
        """Remember the origin of each array of an extraction of these images."""
        if self._sent is not None:
            remember_extraction(extraction, self._sent, options=self._options, root=self._root)


def remember_extraction(
    extraction: Extraction,
    images: Iterable[Fingerprint],
    *,
    options: ExtractOptions,
    root: Path | None = None,
) -> None:
    """Remember the origin of each array of an extraction; `images` were sent for it.

    The rest is as in `Request`.
    """
    places = {image.place for image in extraction.skipped}
    sent = tuple(images)
    request = Request(extraction.batch_size, options, root)
    kind = sent[0].kind if sent else "encoded"
    origin = {**describe(extraction.provenance, request, kind), "image_count": len(sent)}
    if places:
        origin["skipped"] = [
            {**image.to_dict(), **sent[image.place].to_dict()} for image in extraction.skipped
        ]
    kept = tuple(image for place, image in enumerate(sent) if place not in places)
    for module, array in extraction.features.items():
        remember(array, {**origin, "module": module, "images": kept})
