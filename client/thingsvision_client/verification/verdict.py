"""The verdict on a file of features, and its sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..display.cards import Shown

ROUNDING = {"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference that counts as rounding, relative to the largest activation, by number type:
other devices and versions of libraries add in another order."""


def rounding_limit(*types: str) -> float:
    """Return the largest difference that counts as rounding for these number types."""
    return max(ROUNDING.get(one, ROUNDING["float32"]) for one in types)


_SENTENCES = {
    "equal": "{name}: equal bit for bit ({rows} rows recomputed)",
    "rounding": "{name}: within rounding; the largest difference is {difference:.1e} of the "
    "largest activation ({rows} rows recomputed)",
    "different": "{name}: DIFFERENT; the largest difference is {difference:.1e} of the largest "
    "activation ({rows} rows recomputed)",
    "unchecked": "{name}: not recomputed",
}


@dataclass(frozen=True)
class ModuleCheck:
    """How the rows of one array of a file compare with the recomputed ones.

    Attributes:
        name: Name of the array in the file.
        module: Name of the module.
        row_count: Number of recomputed rows.
        is_equal: Whether they are equal bit for bit.
        largest_difference: Largest difference, relative to the largest activation.
        rounding: Largest difference, relative as well, that counts as rounding.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, save_features, verify

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=2)
        save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
        found = verify("results/features.npy")
        print([(module.name, module.verdict) for module in found.modules])
        ```

    """

    name: str
    module: str
    row_count: int
    is_equal: bool
    largest_difference: float
    rounding: float = ROUNDING["float32"]

    @property
    def verdict(self) -> str:
        """`equal` (bit for bit), `rounding`, `different` or `unchecked`."""
        if not self.row_count:
            return "unchecked"
        if self.is_equal:
            return "equal"
        return "rounding" if self.largest_difference <= self.rounding else "different"

    def __str__(self) -> str:
        return _SENTENCES[self.verdict].format(
            name=self.module or "(model)", rows=self.row_count, difference=self.largest_difference
        )


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """What `verify` found out about a file.

    Attributes:
        path: The file.
        modules: How the rows of each array compare with the recomputed ones.
        faults: What is wrong.
        notes: What differs without being wrong, such as another version of a library.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, save_features, verify

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=2)
        save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
        found = verify("results/features.npy")
        print(found.holds, found.faults, found.notes)
        ```

    """

    path: Path
    modules: tuple[ModuleCheck, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def _facts(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "modules": {one.name: "equal" if one.is_equal else "different" for one in self.modules},
            "faults": list(self.faults),
            "notes": list(self.notes),
        }

    @property
    def holds(self) -> bool:
        """Tell whether nothing is wrong, and all modules are equal or differ by rounding."""
        good = {"equal", "rounding"}
        return not self.faults and all(module.verdict in good for module in self.modules)

    def lines(self) -> Iterator[str]:
        """Yield the verdict as sentences to print.

        Yields:
            A line per module, note and fault, and one that says whether the file passes.

        Example:
            ```python
            from thingsvision_client import get_extractor, load_batches, save_features, verify

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            batches = load_batches("photos", "results", extractor.get_backend(), batch_size=2)
            save_features(extractor.extract_features(batches, "features.10"), "results", "npy")
            found = verify("results/features.npy")
            for line in found.lines():
                print(line)
            ```

        """
        yield from map(str, self.modules)
        yield from (f"Note: {note}." for note in self.notes)
        yield from (f"Wrong: {fault}." for fault in self.faults)
        yield f"{self.path} {'passes' if self.holds else 'fails'} the check."
