"""The peer: THINGSvision from PyPI, used as in its documentation, under its own Python."""

from __future__ import annotations

import tempfile
from importlib import import_module
from typing import Any

from ..cases import FeatureCase
from ..worker import Case, Column, Result, main

_SOURCES = {"torchvision": "pt", "keras": "tf"}


class Peer(Column):
    """The same files, module and batch size; it always runs the whole network."""

    def prepare(self, case: Case) -> None:
        """Make the peer's extractor and data loader."""
        extractors: Any = import_module("thingsvision")
        data: Any = import_module("thingsvision.utils.data")
        self._case = FeatureCase(**case)
        source = self._case.model.partition("/")[0]
        backend = _SOURCES[source]
        self._extractor = extractors.get_extractor(
            model_name=self._case.network,
            source=source,
            device=self._case.device.partition(":")[0],
            pretrained=False,
            model_path=self._case.weights if backend == "pt" else None,
        )
        if backend == "tf":
            self._set_keras_weights()
        dataset = data.ImageDataset(
            root=self._case.folder,
            out_path=tempfile.mkdtemp(),
            backend=backend,
            file_names=[path.rpartition("/")[2] for path in self._case.images],
            transforms=self._extractor.get_transformations(),
        )
        self._batches = data.DataLoader(dataset, batch_size=self._case.batch_size, backend=backend)

    def run(self) -> Result:
        """Extract the features."""
        modules = self._case.modules
        chosen: dict[str, Any] = {"module_names": modules}
        if len(modules) == 1:
            chosen = {"module_name": modules[0]}
        features = self._extractor.extract_features(
            self._batches, flatten_acts=False, output_type="ndarray", **chosen
        )
        return {modules[0]: features} if len(modules) == 1 else dict(features)

    def _set_keras_weights(self) -> None:
        import numpy as np

        with np.load(self._case.weights) as arrays:
            self._extractor.model.set_weights([arrays[key] for key in arrays.files])


if __name__ == "__main__":
    main(Peer)
