"""What passes of a model take, to tell beforehand what the next one will."""

from __future__ import annotations


class PassTimes:
    """Seconds of the whole device that an image took lately, by the size of its batch.

    An image alone takes several times as long as one in a large batch, so sizes are told apart by
    powers of two.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def observe(self, image_count: int, seconds: float) -> None:
        """Note how long each image of a pass took."""
        self._seconds[image_count.bit_length()] = seconds

    def expect(self, image_count: int) -> float:
        """Return how long each image of a pass will take; 0: not known yet."""
        size = image_count.bit_length()
        nearest = min(self._seconds, key=lambda known: abs(known - size), default=None)
        return 0.0 if nearest is None else self._seconds[nearest]

    def most_images(self, seconds: float, batch_size: int) -> int:
        """Return how many images a pass may have that takes no longer; 0 where it isn't known."""
        count = batch_size
        for _ in range(2):  # fewer images take longer each
            each = self.expect(count)
            if not count or not each:
                return 0
            count = min(count, int(seconds / each))
        return count
