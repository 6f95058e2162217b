"""Programs that are more than a program are refused with a reason, and nothing in them is run."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from operator import getitem
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from support.closeness import assert_close
from support.own_files import DECLARED, hooked, in_program, inputs, rewritten
from support.own_networks import SEEDS, WORDS, network, words_network
from support.written_programs import archive
from support.written_programs import node as node_of
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, InvalidWeightsError
from thingsvision_server.errors import InvalidWeightsError as ServersInvalidWeightsError
from thingsvision_server.sources.own.exported_graph import written_inputs
from thingsvision_server.sources.uploads.exported_check import read_program
from thingsvision_server.sources.uploads.exported_sizes import is_safe_size

aten = torch.ops.aten


def node(program: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = program["graph_module"]["graph"]["nodes"][0]
    return first


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled_weight(files: dict[str, bytes], armed: Path) -> None:
    name = "data/weights/model_weights_config.json"
    config = json.loads(files[name])
    first = next(iter(config["config"].values()))
    first.update(use_pickle=True, tensor_meta=None)
    files[f"data/weights/{first['path_name']}"] = pickle.dumps(Touch(armed))
    files[name] = json.dumps(config).encode()


def pickled_object(files: dict[str, bytes], armed: Path) -> None:
    name = "data/constants/model_constants_config.json"
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    files[name] = json.dumps({"config": {"thing": meta}}).encode()
    files["data/constants/opaque_obj_0"] = pickle.dumps(Touch(armed))


def legacy_weights(files: dict[str, bytes], armed: Path) -> None:
    file = io.BytesIO()
    torch.save(Touch(armed), file)
    files["data/weights/model.pt"] = file.getvalue()


def code_in_a_name(program: dict[str, Any]) -> None:
    text = json.dumps(program).replace('"conv2d"', "\"conv2d=0;__import__('os').abort();x\"")
    program.update(json.loads(text))


def code_in_a_size(program: dict[str, Any]) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    sizes = next(v["sizes"] for v in values.values() if v["sizes"] and "as_expr" in v["sizes"][0])
    sizes[0]["as_expr"]["expr_str"] = "__import__('os').abort()"


def code_in_a_key(program: dict[str, Any]) -> None:
    text = json.dumps(program).replace('"stem.0.weight"', '"stem.0\\".x(exit())#.weight"')
    program.update(json.loads(text))


def unknown_outputs(program: dict[str, Any]) -> None:
    spec = program["graph_module"]["module_call_graph"][0]["signature"]
    spec["out_spec"] = json.dumps([1, {"type": "collections.defaultdict", "context": "{}",
                                       "children_spec": []}])  # fmt: skip


REFUSED: dict[str, tuple[Callable[[dict[str, bytes]], None], tuple[str, ...]]] = {
    "compiled code": (
        lambda files: files.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
        ("aotinductor", "compiled code"),
    ),
    "another file": (lambda files: files.update({"x.py": b"1"}), ("'x.py'", "not part of")),
    "a custom operator": (
        in_program(lambda p: node(p).update(target="torch.ops.mine.convolve.default")),
        ("'mine::convolve'", "custom operators"),
    ),
    "an operator that reads files": (
        in_program(lambda p: node(p).update(target="torch.ops.aten.from_file.default")),
        ("'aten::from_file'",),
    ),
    "an operator that writes files": (
        in_program(lambda p: node(p).update(target="torch.ops.aten.save.default")),
        ("'aten::save'",),
    ),
    "any function of torch": (
        in_program(lambda p: node(p).update(target="torch.hub.load")),
        ("'torch.hub.load'",),
    ),
    "code in a name": (in_program(code_in_a_name), ("abort", "name")),
    "code in a key": (in_program(code_in_a_key), ("0\"' of a module or weight",)),
    "code in a size": (in_program(code_in_a_size), ("abort", "expr_str")),
    "no program": (lambda files: files.pop("models/model.json") and None, ("torch.export.save",)),
}


@pytest.fixture
def program(programs: Path) -> Path:
    return programs / "any.pt2"


@pytest.mark.parametrize("case", REFUSED)
def test_a_program_that_is_more_than_a_program_is_refused(
    client: Client, program: Path, case: str
) -> None:
    change, words = REFUSED[case]
    with pytest.raises(InvalidWeightsError) as refusal:
        client.upload_model(rewritten(program, change))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("arm", [pickled_weight, pickled_object, legacy_weights])
def test_what_is_pickled_in_a_program_is_refused_and_never_run(
    client: Client, program: Path, tmp_path: Path, arm: Callable[..., None]
) -> None:
    armed = tmp_path / "armed"
    path = rewritten(program, lambda files: arm(files, armed))
    with pytest.raises(InvalidWeightsError, match=r"pickled|not part of a program"):
        client.upload_model(path)
    assert not armed.exists()


def test_pickled_example_inputs_are_not_read(
    client: Client, program: Path, tmp_path: Path, photos: list[Path]
) -> None:
    armed, file = tmp_path / "armed", io.BytesIO()
    torch.save(Touch(armed), file)
    path = rewritten(program, lambda f: f.update({"data/sample_inputs/model.pt": file.getvalue()}))
    model = client.upload_model(path, DECLARED)
    found = client.extract(model, photos, "head").features["head"]
    expected = hooked(network(SEEDS["any"]), inputs(photos), ["head"])["head"]
    assert_close(found, expected)
    assert not armed.exists()


def test_guards_are_not_run(client: Client, program: Path, photos: list[Path]) -> None:
    guards = in_program(lambda p: p.update(guards_code=["__import__('os').abort()"]))
    model = client.upload_model(rewritten(program, guards), DECLARED)
    assert client.extract(model, photos, "head").features["head"].shape == (len(photos), 5)


def test_classes_of_outputs_are_not_imported(
    client: Client, program: Path, photos: list[Path]
) -> None:
    model = client.upload_model(rewritten(program, in_program(unknown_outputs)), DECLARED)
    assert client.extract(model, photos, "head").features["head"].shape == (len(photos), 5)


def test_a_network_exported_as_it_trains_is_refused(client: Client, programs: Path) -> None:
    path = programs / "training.pt2"
    with pytest.raises(InvalidWeightsError, match=r"training mode, .* Call model.eval\(\)"):
        client.upload_model(path)


def test_a_network_of_integers_is_sent_as_one_that_converts_floats(
    client: Client, programs: Path
) -> None:
    with pytest.raises(InvalidWeightsError, match=r"float32 tensor.*x\.long\(\).*with float32"):
        client.upload_model(programs / "integers.pt2")
    model = client.upload_model(programs / "words.pt2")
    numbers = [(str(row), np.float32(words)) for row, words in enumerate(WORDS)]
    got = client.extract(model, numbers, "words").features["words"]
    assert_close(got, words_network()(torch.tensor(WORDS).float()).detach().numpy())


def wrong_size(program: dict[str, Any]) -> None:
    """Let the program give a module another number of channels than its weights have."""
    text = json.dumps(program).replace('"as_ints": [2, 2]', '"as_ints": [2, 2, 2]')
    program.update(json.loads(text))


def integers_alone(program: dict[str, Any]) -> None:
    """Let the program have no modules with operators, and no rows."""
    for one in program["graph_module"]["graph"]["nodes"]:
        one["metadata"].pop("nn_module_stack", None)
    (output,) = program["graph_module"]["graph"]["outputs"]
    output["as_tensor"]["name"] = "b_scale"
    (spec,) = program["graph_module"]["signature"]["output_specs"]
    spec["user_output"]["arg"]["as_tensor"]["name"] = "b_scale"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wrong_size, "any.pt2 can't take inputs of 3 x 32 x 32: .*stride"),
        (integers_alone, "nothing can be extracted from .*no row per image: shape .. for 2"),
    ],
)
def test_what_can_be_read_but_not_used_is_refused_at_the_upload(
    client: Client, program: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    before = client.uploads()
    path = rewritten(program, in_program(change))
    with pytest.raises(InvalidWeightsError, match=words.replace("any.pt2", path.name)):
        client.upload_model(path, DECLARED)
    assert client.uploads() == before


def test_no_damaged_program_is_more_than_an_invalid_one(
    client: Client, program: Path, photos: list[Path]
) -> None:
    """Values are changed at random, but the archive and its JSON stay readable."""
    random = np.random.default_rng(0)
    for _ in range(15):

        def change(files: dict[str, bytes]) -> None:
            text = bytearray(files["models/model.json"])
            for place in random.integers(0, len(text), 2):
                text[place] = random.choice([*b"0123456789abcdefxyz_."])
            files["models/model.json"] = bytes(text)

        with suppress(InvalidRequestError):
            model = client.upload_model(rewritten(program, change), DECLARED)
            client.extract(model, photos, "head")


WRITTEN = {
    "drawn unless it says so": (
        [node_of("native_dropout.default", "y", input="x", p=0.5, train=None)],
        "draws random numbers",
    ),
    "drawn if that is computed": (
        [node_of("dropout.default", "y", input="x", p=0.5,
                 train={"as_sym_bool": {"as_name": "b"}})],
        "draws random numbers",
    ),
    "an argument twice": (
        [{**(twice := node_of("relu.default", "y", self="x")), "inputs": twice["inputs"] * 2}],
        "must have each of",
    ),
    "an argument of another operator": (
        [node_of("relu.default", "y", self="x", p=0.0)], "must have each of"
    ),
    "trained": (
        [node_of("silu_backward.default", "y", grad_output="x", self="x")],
        "'aten::silu_backward' in the network itself .* not one that networks need",
    ),
    "resized": ([node_of("resize_.default", "y", self="x", size=[9])], "Make a new tensor"),
}  # fmt: skip
"""Operators that no exporter writes, and why they are refused."""


@pytest.mark.parametrize("case", WRITTEN)
def test_operators_that_no_exporter_writes_are_refused(tmp_path: Path, case: str) -> None:
    nodes, words = WRITTEN[case]
    path = tmp_path / "net.pt2"
    path.write_bytes(archive(nodes))
    with pytest.raises(ServersInvalidWeightsError, match=words):
        read_program(path, "net.pt2")


def test_tensors_that_are_overwritten_by_another_name_are_copied_first() -> None:
    graph = fx.Graph()
    names = ("whole", "part", "out", "dropped", "fresh", "images")
    whole, part, out, dropped, fresh, _ = given = [graph.placeholder(name) for name in names]
    parts = graph.call_function(aten.unsafe_chunk.default, (part, 2))
    first = graph.call_function(getitem, (parts, 0))
    graph.call_function(aten.zero_.default, (whole,))
    graph.call_function(aten.add_.Scalar, (first, 1))
    graph.call_function(aten.add.out, (fresh, fresh), {"out": out})
    same = graph.call_function(aten.dropout.default, (dropped, 0.5, False))
    graph.call_function(aten.relu_.default, (same,))
    new = graph.call_function(aten.relu.default, (fresh,))
    graph.call_function(aten.relu_.default, (new,))
    flat: Any = SimpleNamespace(graph=graph, placeholders=given)
    assert {names[number] for number in written_inputs(flat)} == {"whole", "part", "out", "dropped"}


SIZES = [
    ("s77", True),
    ("Symbol('s77', positive=True, integer=True)", True),
    ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
    ("FloorDiv(s0, 2) + 1", True),
    ("Pow(s0, 2)", True),
    ("Pow(s0, -1)", True),
    ("Pow(s0, Rational(1, 2))", True),
    ("LShift(s0, 2)", True),
    ("9**9**9", False),
    ("Pow(s0, s1)", False),
    ("Pow(s0, 9000000000000000000)", False),
    ("LShift(1, 1000000000000)", False),
    ("PowByNatural(2, Integer(99))", False),
    ("__import__('os')", False),
    ("Symbol('s0').__class__", False),
    ("Symbol('__import__')", False),
    ("Float('1e9', precision=__import__('os'))", False),
    ("open('x')", False),
    ("[s0 for s0 in s1]", False),
    ("9**9**9**9", False),
    ("lambda: 0", False),
    ("s0 if s1 else s2", False),
    ("'text'", False),
]


@pytest.mark.parametrize(("text", "is_safe"), SIZES)
def test_a_size_is_arithmetic_and_nothing_else(text: str, is_safe: bool) -> None:
    assert is_safe_size(text) == is_safe
