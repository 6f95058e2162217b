"""Records in a program of `torch.export` what each module returns, as a forward hook sees it.

A program keeps operators, not modules: outputs that nothing uses are dropped, and so is their
order. So hooks add an operator without effect, the mark, after each call of a module. It has the
module's first tensor and a number; the names by number are in a file beside the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import chain
from typing import Any

from ..errors import InvalidRequestError

OUTLINE_FILE = "thingsvision.json"
"""Name of the file, among the archive's extra files."""

OUTLINE_VERSION = 1

_INNER = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}
"""Classes of PyTorch that only wrap a network, and the name under which they have it."""


def unwrap(network: Any) -> Any:
    """Return a network without the wrappers around it, such as `nn.DataParallel`."""
    while (inner := _inner(network)) is not None:
        network = inner
    return network


@contextmanager
def unwrap_parts(network: Any) -> Iterator[None]:
    """Replace wrapped modules inside a network by what is in them, for as long as it lasts."""
    replaced = [
        (parent, name, child)
        for parent in list(network.modules())
        for name, child in _children(parent).items()
        if child is not None and _inner(child) is not None
    ]
    try:
        for parent, name, child in replaced:
            parent.register_module(name, unwrap(child))
        yield
    finally:
        for parent, name, child in replaced:
            parent.register_module(name, child)


def _inner(module: Any) -> Any:
    """Return the network that a wrapper of PyTorch contains; None if it is not a wrapper."""
    kind = type(module)
    if kind.__name__ not in _INNER or not kind.__module__.startswith("torch."):
        return None
    return _children(module).get(_INNER[kind.__name__])


def _children(module: Any) -> dict[str, Any]:
    """Return a module's parts, with all names of a part that has several."""
    children: dict[str, Any] = module._modules  # noqa: SLF001 - PyTorch's list names each once
    return children


class Recording:
    """The modules of a network, and marks for what they return, while it is traced."""

    def __init__(self, torch: Any, network: Any) -> None:
        self._torch = torch
        self._mark = _marker(torch)
        self._network = network
        self._names: dict[Any, list[str]] = {}
        self._registered: dict[str, None] = {}
        for name, module in network.named_modules(remove_duplicate=False):
            self._names.setdefault(module, []).append(name)
            self._registered[name] = None
        self._marks: dict[str, int] = {}
        self._started: dict[Any, None] = {}
        self._fields: dict[str, str] = {}
        self._without_tensor: dict[str, str] = {}

    @contextmanager
    def hook_modules(self, *, but_root: bool) -> Iterator[None]:
        """Mark what modules return, for as long as it lasts; `but_root` leaves out the network."""
        with ExitStack() as hooks:
            for module in self._names:
                if module is self._network and but_root:
                    continue
                self._hook(module, hooks)
            yield

    def _hook(self, module: Any, hooks: ExitStack) -> None:
        try:
            hooks.enter_context(module.register_forward_pre_hook(partial(self._begin, module)))
            hooks.enter_context(module.register_forward_hook(partial(self._end, module)))
        except RuntimeError as error:  # PyTorch's, for what `torch.jit.script` made
            name = self._names[module][0]
            raise InvalidRequestError(
                f"{f'module {name!r}' if name else 'the network'} is TorchScript "
                f"({type(module).__name__}), which torch.export does not read, and whose modules "
                "take no hooks: give the network as it was before torch.jit.script."
            ) from error

    def mark_output(self, module: Any, output: Any) -> None:
        """Mark a module's output: its first tensor, and the values of its fields if named."""
        self._started.setdefault(module, None)
        tensor = first_tensor(self._torch, output)
        for name in self._names[module]:
            if tensor is None:
                self._without_tensor[name] = type(output).__name__
            else:
                self._mark_as(name, tensor)
            for field, value in _tensors_of_fields(self._torch, output):
                self._mark_as(self._name_of_field(name, field), value)

    def outline(self) -> str:
        """Return what the file beside the program says, JSON."""
        started = dict.fromkeys([self._network, *self._started, *self._names])
        modules = [
            {"name": name, "classes": _classes(module), "attributes": _attributes(module)}
            for module in started
            for name in self._names[module]
        ]
        fields_alone = [name for name in self._fields.values() if name not in self._registered]
        modules += [{"name": name, "classes": ["Output"]} for name in fields_alone]
        return json.dumps(
            {
                "version": OUTLINE_VERSION,
                "modules": modules,
                "registered": list(self._registered),
                "marks": list(self._marks),
                "without_tensor": self._without_tensor,
                "shared": _shared_tensors(self._network),
            }
        )

    # Hooks are bound to their module: what PyTorch gives them as it traces stands for the module.

    def _begin(self, module: Any, _proxy: Any, _inputs: Any) -> None:
        self._started.setdefault(module, None)

    def _end(self, module: Any, _proxy: Any, _inputs: Any, output: Any) -> None:
        self.mark_output(module, output)

    def _mark_as(self, name: str, tensor: Any) -> None:
        self._mark(tensor, self._marks.setdefault(name, len(self._marks)))

    def _name_of_field(self, module: str, field: str) -> str:
        """Return the name of a field: as it would be as a part, unless a part that runs has it."""
        plain, other = (f"{module}.{one}".lstrip(".") for one in (field, f"output.{field}"))
        if plain not in self._fields:
            running = {name for one in self._started for name in self._names[one]}
            self._fields[plain] = other if plain in running else plain
        return self._fields[plain]


def first_tensor(torch: Any, output: Any) -> Any:
    """Return the first tensor of an output, however it is nested; None without any."""
    return next(_tensors(torch, output), None)


def _values_by_name(output: Any) -> Mapping[str, Any] | None:
    """Return an output's values by name: of a dict, a dataclass or a named tuple."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    return None


def _tensors(torch: Any, output: Any) -> Iterator[Any]:
    if isinstance(output, torch.Tensor):
        yield output
        return
    named = _values_by_name(output)
    values = (
        output if isinstance(output, (tuple, list)) else () if named is None else named.values()
    )
    yield from chain.from_iterable(_tensors(torch, value) for value in values)


def _tensors_of_fields(torch: Any, output: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of an output's fields; several in a field are numbered."""
    named = _values_by_name(output)
    for name, value in ({} if named is None else named).items():
        if isinstance(value, torch.Tensor):
            yield name, value
        else:
            for number, tensor in enumerate(_tensors(torch, value)):
                yield f"{name}.{number}", tensor


def _classes(module: Any) -> list[str]:
    """Return the names of a module's class and of PyTorch's own classes above, without `Module`."""
    kind, *above = type(module).__mro__
    named = [one for one in above if one.__module__.startswith("torch.nn.modules.")]
    return [f"{one.__module__}.{one.__qualname__}" for one in [kind, *named[:-1]]]


def _attributes(module: Any) -> str:
    return " ".join(str(module.extra_repr()).split())


def _shared_tensors(network: Any) -> dict[str, str]:
    """Return the other names of parameters and buffers that have several: the first by each."""
    first: dict[int, str] = {}
    shared = {}
    for name, tensor in chain(
        network.named_parameters(remove_duplicate=False),
        network.named_buffers(remove_duplicate=False),
    ):
        other = first.setdefault(id(tensor), name)
        if other != name:
            shared[name] = other
    return shared


def _marker(torch: Any) -> Any:
    """Return the operator that marks outputs, which is never removed as unused."""
    if not hasattr(torch.ops.thingsvision, "output"):
        library = torch.library.Library("thingsvision", "FRAGMENT")
        library.define("output(Tensor x, int number) -> ()")
        library.impl("output", lambda _x, _number: None, "CompositeExplicitAutograd")
        _KEPT.append(library)  # operators of a library end with it
    operator = torch.ops.thingsvision.output.default
    torch.fx.has_side_effect(operator)
    return operator


_KEPT: list[Any] = []
