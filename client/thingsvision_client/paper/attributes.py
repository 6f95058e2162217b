"""The attributes of the paper's model: what it was made from, and what can be assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..library.assignment import CheckedAttributes
from ..library.devices import check_device
from ..library.extractor import Extractor
from ..library.request import Choices


class ModelAttributes(CheckedAttributes):
    """The attributes of `Model`; assigning one works as in the library, or raises."""

    _asked: Choices
    _backend: str
    _source: str | None
    _server: str | None

    @property
    def extractor(self) -> Extractor:
        """Today's extractor of this model. It can be assigned."""
        extractor: Extractor | None = vars(self).get("_extractor")
        if extractor is None:
            raise ValueError("`load_model` must assign a network to `model`, or call super().")
        return extractor

    @extractor.setter
    def extractor(self, extractor: Extractor) -> None:
        if not isinstance(extractor, Extractor):
            raise TypeError(f"`extractor` must be an Extractor, got {type(extractor).__name__}.")
        self._extractor = extractor

    @property
    def model(self) -> Any:
        """The model as `Client` takes it, and a read-only view of its modules.

        A network of yours that you assign is sent to the server and takes its place; images are
        preprocessed as before.
        """
        return self.extractor.model

    @model.setter
    def model(self, network: Any) -> None:
        if "_extractor" in vars(self):
            self.extractor.model = network
        else:  # in the `load_model` of a subclass
            send = import_module(__name__.partition(".")[0]).get_extractor_from_model
            whose = {"server": self._server, "share": self._asked.share}
            self.extractor = send(network, None, self._backend, **whose)

    @property
    def device(self) -> Any:
        """The device of the server that was asked for.

        Another one that you assign gives a warning if the server does not have it.
        """
        return self._asked.device

    @device.setter
    def device(self, device: Any) -> None:
        check_device(self.extractor.client, device)
        self._asked = replace(self._asked, device=device)

    @property
    def model_name(self) -> str:
        """The name by which the model was asked for."""
        return self._asked.model_name

    @property
    def pretrained(self) -> bool:
        """Whether pretrained weights were asked for."""
        return self._asked.pretrained

    @property
    def model_path(self) -> Any:
        """The file of your own weights, or None."""
        return self._asked.model_path

    @property
    def model_parameters(self) -> Mapping[str, Any]:
        """The `model_parameters` that were given."""
        return self.extractor.model_parameters

    @property
    def source(self) -> str | None:
        """The source that was asked for, else that of the model that was found."""
        found = vars(self).get("_extractor")
        return self._source if found is None else str(found.source)

    @property
    def backend(self) -> str:
        """`pt` or `tf`: the framework of the model."""
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        if backend != self._backend:
            raise AttributeError(
                f"`backend` must stay {self._backend!r}, got {backend!r}: make a new one, such as "
                "Model(model_name, pretrained, device, backend=...)."
            )
