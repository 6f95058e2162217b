"""A folder of RDMs of a model's modules, with their metadata and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..files import atomic_file, file_stem, metadata_path
from ..origins.document import Content, document_of, write_document
from ..origins.replacing import check_free, describe, figures_of, metadata_of, remove_stale

if TYPE_CHECKING:
    from ..arrays import Array
    from ..values.model import Model

_NAME = "rdm"


@dataclass(frozen=True)
class RDMFolder:
    """Where RDMs of modules by a metric are written: `rdm.npy`, or `rdm_{module}.npy` of several.

    Without `overwrite`, files of other RDMs and their figures are an error.
    """

    folder: Path
    modules: Sequence[str]
    metric: str
    overwrite: bool = False

    def path(self, module: str) -> Path:
        """Return the path of a module's RDM."""
        name = _NAME if len(self.modules) == 1 else f"{_NAME}_{file_stem(module)}"
        return self.folder / f"{name}.npy"

    def check_before(self, model: Model, names: Sequence[str]) -> None:
        """Raise InvalidRequestError, before RDMs are computed, if other RDMs are in their place."""
        for module in () if self.overwrite else self.modules:
            for path in (self.path(module), *figures_of(self.path(module))):
                old = metadata_of(path)
                if old is not None and not self._may_be_same(old, module, model, names):
                    raise InvalidRequestError(
                        f"{path} has {describe(old)}: choose another folder, or replace it with "
                        "--overwrite."
                    )

    def _may_be_same(
        self, old: Mapping[str, Any], module: str, model: Model, names: Sequence[str]
    ) -> bool:
        """Tell whether a file may be what will be computed; the server knows the exact weights."""
        whole = f"{model.source}/{model.name}@{model.weights or ''}"
        modules = [one.get("module") for one in old.get("modules", {}).values()]
        images = [one["name"] for one in old.get("images", [])]
        known = set(images)  # broken images have no row
        is_part = bool(images) and [name for name in names if name in known] == images
        is_model = str(old.get("model", "")).startswith(whole)
        return is_model and is_part and (old.get("metric"), modules) == (self.metric, [module])

    def write(
        self,
        rdms: Mapping[str, Array],
        origin: Mapping[str, Any],
        *,
        draw: Callable[[str, Path], None] | None = None,
    ) -> list[Path]:
        """Write all RDMs with their metadata, and return the paths of the files.

        `origin` is what computed them, with their images. `draw` draws the figure of a module into
        a file. Figures of other RDMs are removed. Raises InvalidRequestError.
        """
        documents = {module: self._document(module, rdm, origin) for module, rdm in rdms.items()}
        for module, document in documents.items():
            path = self.path(module)
            beside = figures_of(path)
            check_free(path, document, overwrite=self.overwrite, beside=beside)
        written = []
        for module, document in documents.items():
            path = self.path(module)
            _write(path, rdms[module], document)
            written.append(path)
            if draw is not None:
                figure = path.with_suffix(".png")
                draw(module, figure)
                write_document(figure, document)
                written.append(figure)
        return written

    def _document(self, module: str, rdm: Array, origin: Mapping[str, Any]) -> dict[str, Any]:
        arithmetic = origin.get("arithmetic", {}).get(module)
        facts = {**origin, "arithmetic": arithmetic, "module": module, "rows": [0, len(rdm)]}
        content = Content(tuple(rdm.shape), str(rdm.dtype), facts)
        return {**document_of({_NAME: content}), "metric": self.metric}


def _write(path: Path, rdm: Array, document: Mapping[str, Any]) -> None:
    """Write an RDM with its metadata, and remove figures of others."""
    import numpy as np

    metadata_path(path).unlink(missing_ok=True)
    with atomic_file(path) as file:
        np.save(file, rdm, allow_pickle=False)
    write_document(path, document)
    remove_stale(figures_of(path), document)
