"""What computed features, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..calls.arguments import as_texts, as_whole, choose
from ..display.cards import Shown
from ..errors import InvalidRequestError
from .cores import Cores
from .methods_text import INPUTS, Subject, cited_works, write_paragraph
from .model import Model
from .options import ComputeOptions
from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep, with_tuples
from .servers import ServedRows


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


@dataclass(frozen=True)
class SplitBatch:
    """Consecutive images whose batches the server's device had no room for.

    The last bits of their rows may differ from those of whole batches.

    Attributes:
        first_index: Place of the first of them.
        image_count: Number of the images.
        pass_size: Images in each of their forward passes; the last pass of a batch may have fewer.

    """

    first_index: int
    image_count: int
    pass_size: int


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
        cores: How many cores of a CPU each forward pass used; None if this depended on the load
            (without `batch_size` and `deterministic`), on a GPU, and for TensorFlow and
            onnxruntime, which use all cores.
        hardware: The device's hardware, with what can change bits: a GPU with its driver, CUDA and
            cuDNN, or a CPU's model and instructions. Empty if the server did not tell.
        split_batches: The images whose forward passes had fewer images than their batch, because
            the device had no room; mostly none. A stream knows them when it was read to its end.
        servers: Which server computed which rows, if they came by several calls, as with `streams`;
            a stream knows those of the rows so far.

    """

    model: Model
    model_sha256: str
    preprocessing: Preprocessing
    device: str
    framework: str
    server_version: str
    reduction: Mapping[str, Any] | None = None
    pca: UsedPCA | None = None
    cores: Cores | None = None
    hardware: str = ""
    split_batches: tuple[SplitBatch, ...] = ()
    servers: tuple[ServedRows, ...] = ()

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
            "cores": None if self.cores is None else vars(self.cores),
            "split_batches": [vars(one) for one in self.split_batches],
            "servers": [one.to_dict() for one in self.servers],
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
            known["cores"] = Cores(**known["cores"]) if known.get("cores") else None
            splits = known.get("split_batches", ())
            known["split_batches"] = tuple(SplitBatch(**one) for one in splits)
            known["servers"] = tuple(map(ServedRows.from_dict, known.get("servers", ())))
            return Provenance(**known)
        except (TypeError, LookupError, AttributeError) as error:
            raise InvalidRequestError(f"This is not the provenance of features: {error}.") from None

    def methods_text(
        self,
        *,
        bibtex: bool = True,
        modules: str | Sequence[str] | None = None,
        count: int | None = None,
        inputs: str = "images",
        token_extraction: str | None = None,
        metric: str | None = None,
    ) -> str:
        """Return a paragraph for the methods section of a paper, and the works that it cites.

        Works are cited for the model, the weights and the libraries, if a source of theirs names
        them; else it says "no citation known". Entries have the authors where the source has them.
        `methods_text` of an Extraction, of RDMs and of what `load_features` returns know the rest.

        Args:
            bibtex: Append the BibTeX entries of the works, after an empty line.
            modules: Name of the module, or names of the modules, that features are of.
            count: Number of images, or of texts.
            inputs: What the features are of, `images` or `texts`.
            token_extraction: What was selected from token sequences, such as `cls_token`.
            metric: Metric of RDMs that were computed of the features.

        Returns:
            The paragraph, with citations as in Pandoc, such as `[@arxiv-1512.03385]`.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.provenance.methods_text(modules=["features.10"]))
            ```

        """
        named = [modules] if isinstance(modules, str) else modules
        subject = Subject(
            modules=None if named is None else tuple(as_texts("modules", named)),
            count=None if count is None else as_whole("count", count, 0),
            inputs=choose("inputs", inputs, INPUTS),
            token_extraction=token_extraction,
            metric=metric,
        )
        paragraph = write_paragraph(self.to_dict(), subject)
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
