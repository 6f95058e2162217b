"""What computed features, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..display.cards import Shown
from ..errors import InvalidRequestError
from .methods_text import cited_works, write_paragraph
from .model import Model
from .options import ComputeOptions
from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep, with_tuples


@dataclass(frozen=True)
class UsedPCA:
    """Which PCA reduced features, and which images it was fitted on; as in `PCA`.

    Attributes:
        sha256: SHA-256 of the PCA.
        name: Its name, or empty.
        component_count: Number of components.
        image_count: Number of images that it was fitted on.
        images_sha256: SHA-256 over these images and their names.

    """

    sha256: str
    name: str
    component_count: int
    image_count: int
    images_sha256: str


@dataclass(frozen=True, repr=False)
class Provenance(Shown, ComputeOptions):
    """What computed the features and how: all that a methods section needs.

    Its other fields are the options of the forward pass.

    Attributes:
        model: The model, with the tag, seed or SHA-256 of its weights.
        model_sha256: SHA-256 of the model's parameters and buffers.
        preprocessing: How images became inputs.
        device: Device of the forward passes.
        framework: Framework and version that ran the model.
        server_version: Version of the server.
        reduction: What was done to the features, as JSON values; None means nothing.
        pca: The PCA of `reduction`, or None.

    """

    model: Model
    model_sha256: str
    preprocessing: Preprocessing
    device: str
    framework: str
    server_version: str
    reduction: Mapping[str, Any] | None = None
    pca: UsedPCA | None = None

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "precision": self.precision,
            "device": self.device,
            "framework": self.framework,
            "server": self.server_version,
            "preprocessing": str(self.preprocessing),
            "SHA-256": self.model_sha256,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Returns:
            The fields by name; the model is its id, `source/name@weights`.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.provenance.to_dict()["framework"])
            ```

        """
        return {
            **vars(self),
            "model": str(self.model),
            "preprocessing": self.preprocessing.to_dict(),
            "pca": None if self.pca is None else vars(self.pca),
        }

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Provenance:
        """Return the provenance that `to_dict` gave, or that is in the metadata of a file.

        Args:
            written: The fields by name; others are left out.

        Returns:
            The provenance.

        Raises:
            InvalidRequestError: A field is missing or malformed.

        Example:
            ```python
            from thingsvision_client import Client, Provenance

            provenance = Client().extract("torchvision/alexnet", "photos", "features.10").provenance
            assert Provenance.from_dict(provenance.to_dict()) == provenance
            ```

        """
        known = {one.name: written[one.name] for one in fields(Provenance) if one.name in written}
        try:
            preprocessing = with_tuples(known["preprocessing"])
            steps = [
                PreprocessingStep(**with_tuples(one)) for one in preprocessing.pop("steps", ())
            ]
            known["preprocessing"] = Preprocessing(**preprocessing, steps=tuple(steps))
            known["model"] = Model.parse(known["model"])
            known["pca"] = UsedPCA(**known["pca"]) if known.get("pca") else None
            return Provenance(**known)
        except (TypeError, LookupError, AttributeError) as error:
            raise InvalidRequestError(f"This is not the provenance of features: {error}.") from None

    def methods_text(self, *, bibtex: bool = True) -> str:
        """Return a paragraph for the methods section of a paper, and the works that it cites.

        Works are cited for the model, the weights and the libraries, if a source of theirs names
        them; else it says "no citation known". Entries have the authors where the source has them.

        Args:
            bibtex: Append the BibTeX entries of the works, after an empty line.

        Returns:
            The paragraph, with citations as in Pandoc, such as `[@arxiv-1512.03385]`.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.provenance.methods_text())
            ```

        """
        paragraph = write_paragraph(self.to_dict())
        return f"{paragraph}\n\n{self.bibtex()}" if bibtex else paragraph

    def bibtex(self) -> str:
        """Return the BibTeX entries of the works that `methods_text` cites.

        Returns:
            The entries, with an empty line between two.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.provenance.bibtex())
            ```

        """
        return "\n\n".join(work.to_bibtex() for work in cited_works(self.model))

    def to_json(self) -> str:
        """Return the fields as JSON text, for the methods section of a paper.

        Returns:
            Indented JSON.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.provenance.to_json())
            ```

        """
        return json.dumps(self.to_dict(), indent=2)
