"""Checks a `torch.export` program (.pt2) before any part of it is loaded.

Loading a program can run code: PyTorch unpickles what the archive marks as pickled, evaluates its
size expressions, and generates Python from its names. So every string of the program is checked
against what its field may contain, and pickled or compiled parts are refused.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InvalidWeightsError
from ..imports import IMPORTS
from .exported_constants import find_constants
from .exported_operators import is_listed
from .exported_outline import MARK, OUTLINE, PREFIX, Outline, define_mark, read_outline
from .exported_randomness import check_repeatable, draws, origin_of
from .exported_sizes import is_safe_size
from .module_names import is_module_path, why_not_usable

PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_TENSORS = ("data/weights/weight_", "data/constants/tensor_")
_IGNORED = ("archive_format", "archive_version", "byteorder", ".data/", "data/sample_inputs/")
"""Files without code, and the pickled example inputs; none of them is read."""

MAX_TEXT_BYTES = 1024**3
"""Size of the largest JSON that is read: unrolled recurrent layers have 100 MB of operators."""

_FLOAT = 7
"""The archive's number for float32."""

_MOST_SIZE = 2**63 - 1

_HIGHER_ORDER = frozenset({"wrap_with_autocast", "wrap_with_set_grad_enabled"})
_SIZE_OPERATORS = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|truediv|and_|or_|getitem)"
    r"|torch\.sym_(not|int|float|ite|max|min|sqrt)|math\.trunc"
)
_ASSERTION = "_assert_scalar"
_READS_SIZES = frozenset(
    {"nonzero", "item", "_local_scalar_dense", "masked_select", "_unique", "_unique2", "unique_dim",
     "unique_consecutive", "repeat_interleave", "index"}
)  # fmt: skip
"""Operators that make sizes of the values in a tensor, which a program then asserts."""

_KEPT_METADATA = "nn_module_stack"
_PLAIN_TEXT = re.compile(r"[\w .,;:+<>=@/-]*", re.ASCII)
_TYPES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})


_NOT_READABLE = (
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the archive's reader, and Python, raise for missing parts and wrong types."""


@dataclass(frozen=True)
class Program:
    """A checked program."""

    content: dict[str, Any]
    """The archive's JSON, without its unused parts."""
    outline: Outline | None
    """What the client recorded of the modules; None for a program by `torch.export` alone."""


def read_program(path: Path, called: str) -> Program:
    """Return a checked program.

    Raises InvalidWeightsError unless it can be loaded safely and run.
    """
    with IMPORTS:  # a server that just started may be importing the same modules
        from torch.export.pt2_archive._package import PT2ArchiveReader

    try:
        with path.open("rb") as file, PT2ArchiveReader(file) as archive:
            _check_files(archive.get_file_names(), called)
            program: dict[str, Any] = json.loads(_read(archive, PROGRAM, called))
            outline = _read_outline(archive, called)
            configs = [json.loads(_read(archive, name, called))["config"] for name in _CONFIGS]
        for config in configs:
            _check_tensors(config, called)
        _check_names(program["graph_module"], called)
        _drop_unread(program, is_recorded=outline is not None)
        _check_program(program, called)
        image_size(program)
    except _NOT_READABLE as error:
        why = str(error).partition("\n")[0]
        raise InvalidWeightsError(
            f"{called} is not a readable torch.export program (.pt2): {why}. Save it with "
            "torch.export.save of PyTorch 2.9 or later"
        ) from error
    return Program(program, outline)


def _read(archive: Any, name: str, called: str) -> bytes:
    """Return a text file of an archive, which may be packed; its size is known before."""
    size = archive.archive_file.get_record_size(name)
    if size > MAX_TEXT_BYTES:
        raise _refusal(
            called, f"{name!r} in it has {size:,} bytes, and at most {MAX_TEXT_BYTES:,} are read"
        )
    content: bytes = archive.read_bytes(name)
    return content


def _read_outline(archive: Any, called: str) -> Outline | None:
    names = archive.get_file_names()
    return read_outline(_read(archive, OUTLINE, called)) if OUTLINE in names else None


def _check_files(names: list[str], called: str) -> None:
    if len(set(names)) < len(names):
        raise _refusal(called, "it contains two files of the same name")
    for name in names:
        if name.startswith("data/aotinductor/"):
            raise _refusal(
                called, f"{name!r} in it is compiled code. Save the program with torch.export.save"
            )
        known = (PROGRAM, OUTLINE, *_CONFIGS)
        if name not in known and not name.startswith((*_TENSORS, *_IGNORED)):
            raise _refusal(
                called, f"{name!r} in it is not part of a program of PyTorch 2.9 or later"
            )


def _check_tensors(config: Mapping[str, Any], called: str) -> None:
    for name, tensor in config.items():
        if tensor["use_pickle"] or not tensor["path_name"].startswith(("weight_", "tensor_")):
            raise _refusal(called, f"its constant or weight {name!r} is pickled")
        _check_place("fqn", name, called)
        _check_strings(tensor, "", called)


def _drop_unread(program: dict[str, Any], *, is_recorded: bool) -> None:
    """Drop guards (they are code), stack traces, and how outputs are nested."""
    program["guards_code"] = []
    program["graph_module"]["metadata"] = {}
    _drop_nesting(program["graph_module"])
    for graph in graphs(program["graph_module"]):
        for node in graph["nodes"]:
            stack = node["metadata"].get(_KEPT_METADATA)
            if is_recorded:
                stack = _without_prefix(stack or "")
            node["metadata"] = {} if stack is None else {_KEPT_METADATA: stack}


def _without_prefix(stack: str) -> str | None:
    """Return an operator's modules as the network names them; None if their names hide them."""
    _, *entries = (entry.split(",") for entry in stack.split(";"))
    if any(len(entry) != 3 for entry in entries):
        return None
    whole = PREFIX.rstrip(".")
    modules = ((key, "" if path == whole else path, kind) for key, path, kind in entries)
    return ";".join(f"{k},{path.removeprefix(PREFIX)},{kind}" for k, path, kind in modules) or None


def _drop_nesting(module: dict[str, Any]) -> None:
    """Let a program have a row of outputs: its classes of outputs would have to be imported."""
    module["module_call_graph"] = [one for one in module["module_call_graph"] if not one["fqn"]]
    inputs = sum("user_input" in one for one in module["signature"]["input_specs"])
    outputs = sum("user_output" in one for one in module["signature"]["output_specs"])
    arguments = [_nest("builtins.tuple", [_LEAF] * inputs), _nest("builtins.dict", [], "[]")]
    for whole in module["module_call_graph"]:
        whole["signature"]["in_spec"] = _write_spec(_nest("builtins.tuple", arguments))
        whole["signature"]["out_spec"] = _write_spec(_nest("builtins.tuple", [_LEAF] * outputs))


def _nest(kind: str, children: list[Any], context: str = "null") -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": children}


_LEAF: Mapping[str, Any] = {"type": None, "context": None, "children_spec": []}


def _write_spec(spec: Mapping[str, Any]) -> str:
    return json.dumps([1, spec])


def graphs(part: Any) -> Iterator[Any]:
    """Yield every graph of a program, including the graphs that operators call."""
    if isinstance(part, dict):
        if "nodes" in part:
            yield part
        for entry in part.values():
            yield from graphs(entry)
    elif isinstance(part, list):
        for entry in part:
            yield from graphs(entry)


def _check_shapes(module: Mapping[str, Any], called: str) -> None:
    """Raise InvalidWeightsError if the program asserts what sizes are, as they are in tensors."""
    for graph in graphs(module):
        nodes = [node for node in graph["nodes"] if node["target"].startswith("torch.ops.aten.")]
        names = [node["target"].split(".")[3] for node in nodes]
        if _ASSERTION not in names:
            continue
        place = next((place for place, name in enumerate(names) if name in _READS_SIZES), 0)
        raise _refusal(
            called,
            f"its operator 'aten::{names[place]}' in {origin_of(nodes[place])} chooses sizes by "
            "the values in the images, and features must have the same shape for all images. "
            "Select with torch.where or a product with a mask, which keep the shape",
        )


def _check_program(program: Mapping[str, Any], called: str) -> None:
    _check_shapes(program["graph_module"], called)
    for graph in graphs(program["graph_module"]):
        if graph["custom_obj_values"]:
            name = next(iter(graph["custom_obj_values"]))
            raise _refusal(called, f"it contains an object {name!r} that is not a tensor")
        for node in graph["nodes"]:
            _check_operator(node, called)
    _check_strings(program, "", called)
    check_repeatable(graphs(program["graph_module"]), called, find_constants(program))


def _check_names(module: Mapping[str, Any], called: str) -> None:
    """Raise if a module has a name that can't be used, before what such names break."""
    paths = {entry["fqn"] for entry in module["module_call_graph"]}
    for path in sorted(paths):
        _check_place("fqn", path, called)
        if path.partition("@")[0] not in paths:
            raise _refusal(called, why_not_usable(f"{path}@") or "")


def _check_operator(node: Mapping[str, Any], called: str) -> None:
    target = node["target"]
    found = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?", target, re.ASCII)
    if _SIZE_OPERATORS.fullmatch(target):
        return
    if target == MARK:
        define_mark()
        return
    if found and found[1] == "higher_order" and found[2] in _HIGHER_ORDER:
        return
    operator = _find_operator(*found.groups(default="")) if found else None
    # Those that draw numbers are refused by `check_repeatable`, which says where they are.
    if found and operator and (is_listed(found[1], found[2]) or draws(operator)):
        _check_arguments(node, operator, called)
        return
    name = f"{found[1]}::{found[2]}" if found else target
    if operator is None:
        what = "is not one of PyTorch's own (aten), or it does more than compute"
    else:
        what = "is not one that networks need to compute features"
    raise _refusal(
        called,
        f"its operator {name!r} in {origin_of(node)} {what}. {_advice(name)}",
    )


_ADVICE: Mapping[str, str] = {
    "as_strided_": "Use views such as view, unfold, expand or transpose",
    "resize_": "Make a new tensor of the size",
    "set_": "Assign the tensor to another name",
}


def _advice(name: str) -> str:
    return _ADVICE.get(name.removeprefix("aten::"), "Export the model without custom operators")


def _find_operator(namespace: str, name: str, overload: str) -> Any | None:
    """Return one of PyTorch's own operators; None if it has none that can be called."""
    import torch
    from torch._C import _dispatch_has_kernel
    from torch._ops import OpOverload

    if namespace not in ("aten", "prims"):
        return None
    packet = getattr(getattr(torch.ops, namespace), name, None)
    operator = getattr(packet, overload, None)
    if not isinstance(operator, OpOverload):
        return None
    suffix = "" if overload == "default" else f".{overload}"
    return operator if _dispatch_has_kernel(f"{namespace}::{name}{suffix}") else None


def _check_arguments(node: Mapping[str, Any], operator: Any, called: str) -> None:
    """Raise InvalidWeightsError unless each argument is the operator's own, and given once."""
    known = {argument.name for argument in operator._schema.arguments}  # noqa: SLF001
    given = [one["name"] for one in node["inputs"]]
    if len(set(given)) < len(given) or not known.issuperset(given):
        raise _refusal(
            called, f"its operator {node['target']!r} must have each of {sorted(known)} once"
        )


def _check_strings(part: Any, place: str, called: str) -> None:
    if isinstance(part, str):
        _check_place(place, part, called)
    elif isinstance(part, list):
        for entry in part:
            _check_strings(entry, place, called)
    elif isinstance(part, dict):
        for key, entry in part.items():
            if not key.isidentifier():
                raise _refusal(called, f"its keys must be names, got {key!r}")
            _check_strings(entry, key, called)


def _check_place(place: str, text: str, called: str) -> None:
    if place in _NAMES and (why := why_not_usable(text)) and text:
        raise _refusal(called, why)
    if not _PLACES.get(place, _is_plain)(text):
        shown = text if len(text) < 80 else f"{text[:80]}..."
        raise _refusal(called, f"{shown!r} is not allowed as {place or 'text'} of a program")


def _is_name(text: str) -> bool:
    return not text or (text.isascii() and text.isidentifier() and not keyword.iskeyword(text))


def _is_plain(text: str) -> bool:
    return _PLAIN_TEXT.fullmatch(text) is not None


def _is_module_stack(text: str) -> bool:
    """Return whether a text is `key,path,class` of an operator's modules, separated by `;`."""
    entries = [entry.split(",") for entry in text.split(";")]
    return all(
        len(entry) == 3 and is_module_path(entry[1]) and _is_plain(entry[2]) and _is_key(entry[0])
        for entry in entries
    )


def _is_key(text: str) -> bool:
    """Return whether a text has no character that ends a string of Python."""
    return text.isprintable() and not set(text) & set('"\\')


def _is_spec(text: str) -> bool:
    """Return whether inputs or outputs are nested in tuples, lists and dicts with plain keys."""
    _, spec = json.loads(text)
    return _is_plain_spec(spec)


def _is_plain_spec(spec: Mapping[str, Any]) -> bool:
    context = json.loads(spec["context"]) if spec["context"] else None
    keys = context if isinstance(context, list) else [context or ""]
    plain = all(isinstance(key, str) and _is_plain(key) for key in keys)
    return plain and spec["type"] in _TYPES and all(map(_is_plain_spec, spec["children_spec"]))


_NAMES = ("parameter_name", "buffer_name", "tensor_constant_name", "fqn")
"""Fields that contain the path of a module or of a weight."""

_PLACES: Mapping[str, Callable[[str], bool]] = {
    "name": _is_name,
    "forward_arg_names": _is_name,
    "user_input_name": _is_name,
    "as_operator": lambda _: False,
    **dict.fromkeys(_NAMES, is_module_path),
    "expr_str": is_safe_size,
    "in_spec": _is_spec,
    "out_spec": _is_spec,
    "nn_module_stack": _is_module_stack,
}
"""Which strings a field may contain, by the field's name."""


def image_size(program: Mapping[str, Any]) -> tuple[tuple[int, int | None], tuple[int | None, ...]]:
    """Return the smallest and largest batch that a program accepts, and the shape of one image.

    None: any size. Raises ValueError unless it has exactly one float32 input.
    """
    module = program["graph_module"]
    specs = module["signature"]["input_specs"]
    inputs = [spec["user_input"]["arg"] for spec in specs if "user_input" in spec]
    if len(inputs) != 1 or "as_tensor" not in inputs[0]:
        raise ValueError(f"it must have one input, of images, got {len(inputs)}")
    tensor = module["graph"]["tensor_values"][inputs[0]["as_tensor"]["name"]]
    if tensor["dtype"] != _FLOAT or len(tensor["sizes"]) < 2:
        raise ValueError(
            "its input must be a float32 tensor of 2 dimensions or more, images first. A network "
            "of integers converts them in its forward, as with x.long(); export it with float32"
        )
    images, *sizes = tensor["sizes"]
    shape = tuple(_size_of(size) for size in sizes)
    if "as_int" in images:
        count = _size_of(images)
        return (count or 1, count), shape
    symbol = re.search(r"s\d+", images["as_expr"]["expr_str"])
    limits = program["range_constraints"].get(symbol[0] if symbol else "", {})
    least, most = (_size_of({"as_int": limits.get(name)}) for name in ("min_val", "max_val"))
    return (max(1, least or 1), most), shape


def _size_of(size: Mapping[str, Any]) -> int | None:
    """Return the size of an axis; None: any. Raises ValueError for what is not an integer."""
    value = size.get("as_int")
    if value is not None and (type(value) is not int or not 0 <= value <= _MOST_SIZE):
        raise ValueError(f"the sizes of its input must be integers of 0 or more, got {value!r}")
    return value


def _refusal(called: str, why: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"{called} is rejected: {why}", subject=called)
