"""What a server says of a PCA that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thingsvision_proto.model_id import model_id

from ..display.cards import Shown, shape_text
from .ownership import Ownership
from .preprocessing import Preprocessing
from .provenance import Provenance


@dataclass(frozen=True)
class PCAModule:
    """The components of one module.

    Attributes:
        name: Name of the module.
        shape: Shape of an image's features before the PCA.
        explained_variance: Variance of each component's scores over the images (divided by their
            number less one).
        explained_variance_ratio: Its part of the variance of all values, from 0 to 1.
        arithmetic: How inner products were computed, as in `RDMs`; empty if the server is older.

    """

    name: str
    shape: tuple[int, ...]
    explained_variance: tuple[float, ...]
    explained_variance_ratio: tuple[float, ...]
    arithmetic: str = ""


@dataclass(frozen=True, repr=False)
class PCA(Shown):
    """A PCA on a server, and what it was fitted on: `Reduction(pca=...)` takes `sha256` or `name`.

    The largest value of each axis by magnitude is positive.

    Attributes:
        sha256: SHA-256 of the PCA.
        name: Its name, or empty.
        component_count: Number of components.
        image_count: Number of images that it was fitted on.
        images_sha256: SHA-256 over a line `SHA-256  name` for each image, as `sha256sum` prints
            them.
        modules: The components of each module.
        provenance: What computed the features that it was fitted on; `reduction` was done to them
            before.
        token_extraction: What was selected from token sequences; empty means all tokens.
        batch_size: Images in a forward pass; 0 means as many as were ready.
        size_bytes: Bytes on the server's disk.
        fitted_unix_seconds: When it was fitted, in seconds since 1970.
        ownership: Whose it is; None if the server is older.

    """

    sha256: str
    name: str
    component_count: int
    image_count: int
    images_sha256: str
    modules: tuple[PCAModule, ...]
    provenance: Provenance
    token_extraction: str
    batch_size: int
    size_bytes: int
    fitted_unix_seconds: float
    ownership: Ownership | None = None

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "components": self.component_count,
            "images": self.image_count,
            "modules": {one.name: shape_text(one.shape) for one in self.modules},
            "model": self.provenance.model,
            "owner": None if self.ownership is None else str(self.ownership),
            "SHA-256": self.sha256,
        }

    @property
    def explained_variance_ratio(self) -> dict[str, tuple[float, ...]]:
        """Part of the variance that each component explains, by module."""
        return {module.name: module.explained_variance_ratio for module in self.modules}

    # Shorter spellings of the provenance, which has everything.

    @property
    def model_id(self) -> str:
        """Id of the model, `source/name@weights`."""
        return model_id(self.provenance.model.to_spec())

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the model's weights."""
        return self.provenance.model_sha256

    @property
    def preprocessing(self) -> Preprocessing:
        """How images became inputs."""
        return self.provenance.preprocessing

    @property
    def precision(self) -> str:
        """Arithmetic of the forward pass."""
        return self.provenance.precision

    @property
    def memory_format(self) -> str:
        """How batches lay in memory in the forward pass."""
        return self.provenance.memory_format

    @property
    def compiled(self) -> bool:
        """Whether the forward pass ran as compiled code."""
        return self.provenance.compiled

    @property
    def deterministic(self) -> bool:
        """Whether every image went through the model alone."""
        return self.provenance.deterministic

    @property
    def reduction(self) -> Mapping[str, Any] | None:
        """What was done to the features before the PCA; None: nothing."""
        return self.provenance.reduction

    @property
    def device(self) -> str:
        """Device of the forward passes."""
        return self.provenance.device

    @property
    def framework(self) -> str:
        """Framework and version that ran the model."""
        return self.provenance.framework

    @property
    def server_version(self) -> str:
        """Version of the server."""
        return self.provenance.server_version
