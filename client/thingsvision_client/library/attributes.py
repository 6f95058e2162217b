"""The attributes of an extractor: what it was made from, and what can be assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType
from typing import Any

from ..client import Client
from ..errors import InvalidRequestError
from ..utils.transforms import ServerTransforms
from ..values.model import Model, as_model
from ..values.options import ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.records import ModuleInfo
from .assignment import CheckedAttributes
from .devices import check_device
from .listing import find_listing
from .module_view import ModuleView
from .network import Network
from .own_programs import WAITING
from .request import ServedModel
from .untrained import is_of_library


class ServedAttributes(CheckedAttributes):
    """The attributes of `Extractor`; assigning one works as in the library, or raises."""

    def __init__(self, served: ServedModel) -> None:
        self._show(served)

    def _show(self, served: ServedModel) -> None:
        """Take a served model; a network of yours stands for itself until it is sent."""
        self._served = served
        self._network: Any = (
            served.network.given
            if served.network is not None and self._is_waiting
            else Network(served.client, served.model, served.backend)
        )

    @property
    def _is_waiting(self) -> bool:
        return self._served.model == WAITING

    @property
    def model(self) -> Any:
        """The model as `Client` takes it, and a read-only view of its modules.

        A network of yours that you assign is sent to the server and takes its place; images are
        preprocessed as before. It stands for itself until the shape of its inputs is known.
        """
        return self._network

    @model.setter
    def model(self, network: Any) -> None:
        if network is self._network:  # as in extractor.model = extractor.model.to(device)
            return
        if isinstance(network, Model):
            served = self._serve(as_model(network))
        elif isinstance(network, ModuleView):
            raise InvalidRequestError(
                f"`model` must be a whole network, got the part {network.name!r} of one: extract "
                "that part's features by its name."
            )
        else:
            served = self._send(network)
        self._show(replace(served, choices=self._served.choices))

    def _serve(self, model: Model) -> ServedModel:
        info = find_listing(self.client, model)
        backend = info.backend if info and info.backend else self.backend
        changes = self.changes if backend == self.backend and is_of_library(self.changes) else None
        options = replace(self.options, preprocessing=changes)
        return ServedModel(self.client, model, backend, options)

    def _send(self, network: Any) -> ServedModel:
        # It is found by its public name, as it makes an extractor and so stands above this module.
        send = import_module(__name__.partition(".")[0]).get_extractor_from_model
        sent = send(
            network,
            None,
            self.backend,
            preprocess=self._preprocessing(),
            server=self.client.server,
            share=self._served.choices.share,
        )
        options = replace(self.options, preprocessing=sent.changes)
        sent_as: ServedModel = sent._served  # noqa: SLF001 - of this class
        return replace(sent_as, client=self.client, options=options)

    def _preprocessing(self) -> Preprocessing | None:
        """Return what the library would go on to apply; None stands for ImageNet's."""
        if isinstance(self.changes, Preprocessing):
            return self.changes
        model = self._served.model
        if self._is_waiting:
            return None
        found = self.client.preprocessing(model)
        if found is None and model.source not in ("torchvision", "own"):
            found = self.client.preprocessing(replace(model, weights=None))
        return found

    @property
    def client(self) -> Client:
        """The client of the server that runs the model."""
        return self._served.client

    @property
    def backend(self) -> str:
        """`pt` or `tf`: the framework that runs the model on the server."""
        return self._served.backend

    @backend.setter
    def backend(self, backend: str) -> None:
        if backend != self.backend:
            raise AttributeError(
                f"`backend` must stay {self.backend!r}, got {backend!r}: make a new one, such as "
                "get_extractor_from_model(network, device, backend)."
            )

    @property
    def options(self) -> ExtractOptions:
        """How features are computed and sent."""
        return self._served.options

    @property
    def changes(self) -> PreprocessingOverrides | Preprocessing | None:
        """Changes of the model's own preprocessing where a dataset asks for none."""
        return self.options.preprocessing

    @property
    def token_extraction(self) -> str | None:
        """What is taken of sequences of tokens; None: all of them. It can be assigned."""
        return self.options.token_extraction

    @token_extraction.setter
    def token_extraction(self, value: str | None) -> None:
        options = ExtractOptions.from_json({"token_extraction": value})
        changed = replace(self.options, token_extraction=options.token_extraction)
        self._served = replace(self._served, options=changed)

    @property
    def device(self) -> Any:
        """The device of the server that was asked for, else the first of the server's.

        Another one that you assign gives a warning if the server does not have it.
        """
        if self._served.choices.device is not None:
            return self._served.choices.device
        return self.client.residency().devices[0].name

    @device.setter
    def device(self, device: Any) -> None:
        check_device(self.client, device)
        choices = replace(self._served.choices, device=device)
        self._served = replace(self._served, choices=choices)

    @property
    def model_name(self) -> str:
        """The name by which the model was asked for; `custom` for a network of yours."""
        return self._served.choices.model_name

    @property
    def source(self) -> str:
        """The source of the model."""
        return self._served.model.source

    @property
    def pretrained(self) -> bool:
        """Whether pretrained weights were asked for."""
        return self._served.choices.pretrained

    @property
    def model_path(self) -> Any:
        """The file of your own weights, or None."""
        return self._served.choices.model_path

    @property
    def model_parameters(self) -> Mapping[str, Any]:
        """The `model_parameters` that were given."""
        return MappingProxyType(dict(self._served.choices.model_parameters))

    @property
    def preprocess(self) -> ServerTransforms:
        """The model's preprocessing, as `get_transformations()` returns it."""
        transforms: ServerTransforms = self.get_transformations()
        return transforms

    @property
    def layers(self) -> list[Any]:
        """The outermost modules of the model."""
        found = self._network.children() if self._is_waiting else self._network.layers
        return list(found)

    def _module_list(self) -> list[ModuleInfo]:
        infos: list[ModuleInfo] = self._network._all_infos()  # noqa: SLF001 - not of a module
        return infos
