"""A server's model as its users know networks: a record of the model, and a tree of its modules."""

from __future__ import annotations

from typing import Any

from ..client import Client
from ..errors import ThingsvisionError
from ..values.model import Model
from ..values.records import ModuleInfo
from .frameworks import class_of
from .module_view import ModuleTree, ModuleView


class Network(ModuleView, Model):
    """A model on a server: what `Client` takes as a model, and a read-only view of its modules.

    `str()` gives the model's name, `repr()` its modules. They are fetched when they are first
    asked for.
    """

    def __init__(self, client: Client, model: Model, backend: str) -> None:
        vars(self).update(vars(model))
        vars(self).update(_root=self, _module="", _client=client, _backend=backend)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._client, self._record, self._backend)

    @property
    def _record(self) -> Model:
        return Model(self.source, self.name, self.weights)

    @property
    def _tree(self) -> ModuleTree:
        if "_fetched" not in vars(self):
            vars(self)["_fetched"] = ModuleTree(self, self._client.modules(self._record))
        tree: ModuleTree = vars(self)["_fetched"]
        return tree

    def _all_infos(self) -> list[ModuleInfo]:
        return list(self._tree.infos.values())

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the framework that isinstance() compares with, if it is loaded."""
        if class_of(None, self._backend) is None:  # the framework is not loaded
            return type(self)
        try:
            return class_of(self._info, self._backend) or type(self)
        except ThingsvisionError:  # isinstance() must not fail
            return class_of(None, self._backend)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self._record)

    def __str__(self) -> str:
        return str(self._record)

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except ThingsvisionError:  # debuggers and notebooks ask for it at any time
            return repr(self._record)
