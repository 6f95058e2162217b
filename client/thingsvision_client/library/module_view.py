"""A module of a server's model, with the attributes and methods that PyTorch and Keras give it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn

from ..errors import InvalidRequestError, UnknownModuleError
from ..values.records import ModuleInfo
from .absent import ATTRIBUTES, CHANGE, METHODS, AbsentMethod, refusal
from .frameworks import class_of, is_framework_class
from .outline import outline
from .settings import has_no, kinds_of, settings_of
from .unchanged import Unchanged

_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")

_MOST_NEAR = 5


class ModuleTree:
    """The modules of a model, by name and by parent, and their views."""

    def __init__(self, root: ModuleView, modules: Sequence[ModuleInfo]) -> None:
        self.infos = {info.name: info for info in modules}
        self.children: dict[str, list[str]] = {name: [] for name in self.infos}
        for info in sorted(modules, key=lambda info: info.position):
            if info.name:
                self.children[info.parent].append(info.name)
        self._views = {"": root}

    def view(self, name: str) -> ModuleView:
        """Return the view of a module, always the same object."""
        if name not in self._views:
            self._views[name] = _view_class(self.infos[name].type)(self._views[""], name)
        return self._views[name]


class _ViewType(type):
    """The type of views' classes, which must not silently differ from a framework's classes."""

    def __eq__(cls, other: object) -> bool:
        if cls is not other and is_framework_class(other):
            raise TypeError(
                f"A module of extractor.model is a view, whose type() is not {other!r}: write "
                f"isinstance(module, {getattr(other, '__name__', '...')}), or compare "
                "module.type, which is the name of its class."
            )
        return cls is other

    __hash__ = type.__hash__


class ModuleView(Unchanged, metaclass=_ViewType):
    """A read-only view of a module, without its weights.

    It has the settings that the module prints (`kernel_size`, `in_features` ...), its children by
    name, the fields of `ModuleInfo` (`type`, `parameter_count` ...), and the methods of PyTorch and
    Keras that go through modules. `isinstance` takes it for the class of PyTorch or
    Keras that it stands for, if that is loaded. What needs weights raises and says what to use.
    """

    _root: Any
    _module: str
    _backend: str

    def __init__(self, root: Any, module: str) -> None:
        of_root = {name: vars(root)[name] for name in ("_backend", "_client")}
        vars(self).update(of_root, _root=root, _module=module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _view_in, (self._root, self._module)

    # ------------------------------------------------------------ what it stands for

    @property
    def _tree(self) -> ModuleTree:
        tree: ModuleTree = self._root._tree  # noqa: SLF001 - a view of the same model
        return tree

    @property
    def _info(self) -> ModuleInfo:
        return self._tree.infos[self._module]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the framework that isinstance() compares with, if it is loaded."""
        return class_of(self._info, self._backend) or type(self)

    @property
    def type(self) -> str:
        """The name of the module's class, such as `Conv2d`."""
        return self._info.type

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the output for one image; of Keras layers with None for the images."""
        return (
            (None, *self._info.output_shape) if self._backend == "tf" else self._info.output_shape
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name not in ATTRIBUTES:
            raise AttributeError(name)
        info = self._info
        child = self._full_name(name)
        if child in self._tree.infos:
            return self._tree.view(child)
        found = asdict(info) | dict(settings_of(info))
        if name in found:
            return found[name]
        if has_no(info, name):
            return None
        if name in METHODS:
            return AbsentMethod(self._label, name)
        if name in ATTRIBUTES:
            raise AttributeError(refusal(self._label, name, ATTRIBUTES[name]))
        near = get_close_matches(name, [*found, *map(self._short_name, self._children)])
        hint = f"; near: {', '.join(near)}" if near else ""
        raise AttributeError(f"{self._label} has no attribute {name!r}{hint}.")

    def __setitem__(self, place: Any, value: Any) -> None:
        raise TypeError(
            f"Modules of {self._label} can't be replaced, as it is a view of a model on a server: "
            f"{CHANGE}."
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in ("training", "trainable") and not value):
            raise AttributeError(
                f"`{name}` of {self._label} can't be assigned, as it is a view of a model on a "
                f"server: {CHANGE}. To leave out the last modules, extract the one before."
            )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    # ------------------------------------------------------------ the tree

    def named_modules(
        self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, ModuleView]]:
        """Yield (name, view) of this module and all below it, in the network's own order."""
        yield prefix, self
        for name, child in self.named_children():
            below = f"{prefix}{self._separator}{name}" if prefix else name
            yield from child.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[ModuleView]:
        """Yield this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, ModuleView]]:
        """Yield (name, view) of the modules directly in this one."""
        return ((self._short_name(name), self._tree.view(name)) for name in self._children)

    def children(self) -> Iterator[ModuleView]:
        """Yield the modules directly in this one."""
        return (self._tree.view(name) for name in self._children)

    def get_submodule(self, target: str) -> ModuleView:
        """Return the module of that name below this one. Raises UnknownModuleError."""
        if not target:
            return self
        name = self._full_name(target)
        if name not in self._tree.infos:
            names = [inside for inside, _ in self.named_modules() if inside]
            near = ", ".join(get_close_matches(target, names, n=_MOST_NEAR))
            hint = f"; near: {near}." if near else "."
            raise UnknownModuleError(f"{self._label} has no module {target!r}{hint}")
        return self._tree.view(name)

    def get_layer(self, name: str | None = None, index: int | None = None) -> ModuleView:
        """Return a module of that name, or of that place in `layers`, as Keras does."""
        if (name is None) == (index is None):
            raise InvalidRequestError("Give exactly one of `name` and `index`.")
        return self.layers[index] if index is not None else self.get_submodule(str(name))

    @property
    def layers(self) -> list[ModuleView]:
        """The modules directly in this one, as of a Keras model."""
        return list(self.children())

    @property
    def submodules(self) -> tuple[ModuleView, ...]:
        """All modules below this one, as of a Keras model."""
        return tuple(self.modules())[1:]

    @property
    def output(self) -> Any:
        """The shape of the output of a Keras layer, in the place of its symbolic tensor."""
        if self._backend != "tf":
            raise AttributeError(f"{self._label} has no attribute 'output'.")
        return SimpleNamespace(shape=self.output_shape, dtype=self._info.output_dtype)

    def __len__(self) -> int:
        self._require_container("measured by len()")
        return len(self._children)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        self._require_container("iterated")
        names = map(self._short_name, self._children)
        return names if self._is("ModuleDict") else self.children()

    def __getitem__(self, key: Any) -> Any:
        self._require_container("indexed")
        return self.get_submodule(key) if isinstance(key, str) else self.layers[key]

    def __contains__(self, key: Any) -> bool:
        return key in list(iter(self))

    def keys(self) -> list[str]:
        """Return the names of the modules directly in this one, as of a ModuleDict."""
        return [self._short_name(name) for name in self._children]

    def values(self) -> list[ModuleView]:
        """Return the modules directly in this one, as of a ModuleDict."""
        return self.layers

    def items(self) -> list[tuple[str, ModuleView]]:
        """Return (name, view) of the modules directly in this one, as of a ModuleDict."""
        return list(self.named_children())

    # ------------------------------------------------------------ text and numbers

    def extra_repr(self) -> str:
        """Return the settings as the network prints them."""
        return self._info.attributes

    def count_params(self) -> int:
        """Return the number of parameters, as of a Keras layer."""
        return self._info.parameter_count

    def get_config(self) -> dict[str, Any]:
        """Return the settings, as of a Keras layer."""
        return {"name": self._module} | dict(settings_of(self._info))

    def summary(self, *_args: Any, **_options: Any) -> None:
        """Print the modules, as a Keras model does."""
        inside = [module._info for module in self.modules()]  # noqa: SLF001
        print(outline(inside))

    def __call__(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raise InvalidRequestError: there are no weights here."""
        AbsentMethod(self._label, "__call__")()

    def __repr__(self) -> str:
        below = [f"({name}): {child!r}" for name, child in self.named_children()]
        lines = "\n".join(below).replace("\n", "\n  ")
        settings = self._info.attributes
        if not below:
            return f"{self.type}({settings})"
        head = f"\n  {settings}" if settings else ""
        return f"{self.type}({head}\n  {lines}\n)"

    # ------------------------------------------------------------ helpers

    @property
    def _children(self) -> list[str]:
        return self._tree.children[self._module]

    @property
    def _separator(self) -> str:
        return "/" if self._backend == "tf" else "."

    @property
    def _label(self) -> str:
        return f"{self.type} {self._module!r}" if self._module else str(self._root)

    def _full_name(self, name: str) -> str:
        return f"{self._module}{self._separator}{name}" if self._module else name

    def _short_name(self, full: str) -> str:
        return full[len(self._module) + 1 :] if self._module else full

    def _is(self, *kinds: str) -> bool:
        return any(kind in kinds for kind in kinds_of(self._info))

    def _require_container(self, use: str) -> None:
        if not self._is(*_CONTAINERS):
            raise TypeError(
                f"{self._label} can't be {use}, as it is not one of {', '.join(_CONTAINERS)}: use "
                "its `children()`, or `layers`."
            )


@cache
def _view_class(kind: str) -> Any:
    """Return the class of views whose name is that of the module's class."""
    return _ViewType(kind, (ModuleView,), {"__module__": __name__})


def _view_in(root: ModuleView, module: str) -> ModuleView:
    return root._tree.view(module)  # noqa: SLF001
