"""Features that were read back from files, with what is known of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..display.cards import Shown, array_texts, shape_text
from ..errors import InvalidRequestError
from ..values.methods_text import subject_of
from ..values.provenance import Provenance


@dataclass(frozen=True, repr=False)
class LoadedFeatures(Shown):
    """Features that `load_features` read, with what is known of their rows.

    Attributes:
        features: An array of images x shape per module, in order; without a known module, it is
            called `features`.
        names: Names of the rows; None if they are not known.
        targets: Class numbers, N x 1, from the file `targets.*` beside the features; None if there
            is none.
        provenances: What computed each array, as far as it is known.
        metadata: The metadata of each array as it is in the files: also the images' SHA-256.
        path: What was read.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, load_features, save_features

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        save_features(extractor.extract_features(batches, "features.10"), "results/saved", "hdf5")
        loaded = load_features("results/saved")
        print(loaded.array.shape, loaded.names, loaded.provenance.model)
        ```

    """

    features: dict[str, Array]
    names: list[str] | None
    targets: Array | None
    provenances: Mapping[str, Provenance]
    metadata: Mapping[str, Mapping[str, Any]]
    path: Path

    def _facts(self) -> dict[str, Any]:
        return {
            "rows": len(self),
            **array_texts(self.features),
            "names": None if self.names is None else f"{self.names[0]} ... {self.names[-1]}",
            "targets": None if self.targets is None else shape_text(self.targets.shape),
            "model": next((str(one.model) for one in self.provenances.values()), None),
            "path": str(self.path),
        }

    @property
    def array(self) -> Array:
        """The only array. Raises InvalidRequestError if there are several."""
        if len(self.features) != 1:
            raise InvalidRequestError(
                f"{self.path} has several arrays: name one, features[NAME], of "
                f"{', '.join(map(repr, self.features))}."
            )
        return next(iter(self.features.values()))

    @property
    def provenance(self) -> Provenance | None:
        """What computed the features; None if it is not known.

        Raises InvalidRequestError if arrays were computed differently.
        """
        found = [self.provenances.get(name) for name in self.features]
        if any(one != found[0] for one in found):
            raise InvalidRequestError(
                f"The arrays of {self.path} were computed differently: see `provenances`."
            )
        return found[0]

    def methods_text(self, *, bibtex: bool = True) -> str:
        """Return a paragraph for the methods section of a paper, and the works that it cites.

        Args:
            bibtex: Append the BibTeX entries of the works, after an empty line.

        Returns:
            The paragraph of `Provenance.methods_text`, with modules, tokens and number of images.

        Raises:
            InvalidRequestError: It is not known what computed the features, or arrays were computed
                differently.

        Example:
            ```python
            from thingsvision_client import Client, load_features, save_features

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            save_features(extraction.features, "results/for-methods", "npy")
            print(load_features("results/for-methods").methods_text())
            ```

        """
        if self.provenance is None:
            raise InvalidRequestError(
                f"It is not known what computed the features in {self.path}: their metadata, the "
                "JSON file that was written beside them, is missing or does not say it."
            )
        known = [self.metadata[name] for name in self.features]
        subject = subject_of(known[0], [one.get("module") for one in known], len(self))
        return self.provenance.methods_text(bibtex=bibtex, **vars(subject))

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))
