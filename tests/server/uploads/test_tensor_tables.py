"""Tables of tensors: a server makes of them what PyTorch reads, and believes none of them."""

from __future__ import annotations

import io
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from thingsvision_server.backends.children.channel import map_memory, open_memory
from thingsvision_server.errors import InvalidWeightsError
from thingsvision_server.sources.weights import tensor_table
from thingsvision_server.sources.weights.key_mismatches import unassignable
from thingsvision_server.sources.weights.mapped_tensors import MappedTensors, TableError
from thingsvision_server.sources.weights.state_dicts import read_checkpoint, state_dicts_in
from thingsvision_server.sources.weights.tensor_table import TensorTable

MAPS = Path("/proc/self/maps")


def state() -> dict[str, torch.Tensor]:
    """Return tensors of many types and layouts; two share their values."""
    torch.manual_seed(0)
    whole = torch.rand(4, 6)
    return {
        "whole": whole,
        "part": whole[1:3, ::2],
        "turned": torch.rand(3, 5).T,
        "number": torch.tensor(3.5, dtype=torch.float64),
        "nothing": torch.zeros(0, 7),
        "spread": torch.arange(3.0).expand(4, 3),
        "yes": torch.tensor([True, False, True]),
        "half": torch.rand(5).to(torch.bfloat16),
        "eighth": torch.rand(5).to(torch.float8_e4m3fn),
        "odd": torch.arange(5, dtype=torch.int16),
        "complex": torch.complex(torch.rand(2), torch.rand(2)),
        "channels": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.rand(2)),
    }


def checkpoint(*, is_old: bool = False) -> dict[str, Any]:
    versioned = OrderedDict(state())
    if is_old:  # this format has no such type
        del versioned["eighth"]
    versioned._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    return {"model": versioned, "ema": {"inside": {"w": versioned["whole"]}}, "epoch": 3, 4: "x"}


def packed(content: bytes) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as found,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written,
    ):
        for name in found.namelist():
            written.writestr(name, found.read(name))
    return file.getvalue()


def saved(*, is_old: bool = False) -> bytes:
    file = io.BytesIO()
    found = checkpoint(is_old=is_old)
    torch.save(found, file, _use_new_zipfile_serialization=not is_old)
    return file.getvalue()


FILES: Mapping[str, Callable[[], bytes]] = {
    "archive": saved,
    "before version 1.6": lambda: saved(is_old=True),
    "packed": lambda: packed(saved()),
}


def mapped(path: Path) -> tuple[MappedTensors, dict[str, Any]]:
    found = read_checkpoint(path, "a file", mapped=True)
    with MAPS.open("rb") if MAPS.exists() else io.BytesIO() as maps:
        table = TensorTable(found, path, "a file", maps)  # type: ignore[arg-type]
    if not table.message["memory_bytes"]:
        return MappedTensors(path, table.message), table.message
    memory = open_memory(table.message["memory_bytes"])
    table.fill(map_memory(memory))
    return MappedTensors(path, table.message, memory), table.message


def assert_same(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, Mapping):
            assert_same(found[name], value)
        elif isinstance(value, torch.Tensor):
            one = found[name]
            assert one.dtype == value.dtype, name
            assert one.shape == value.shape, name
            assert one.stride() == value.stride(), name
            as_bytes = [t.detach().contiguous().view(-1).view(torch.uint8) for t in (one, value)]
            assert torch.equal(*as_bytes), name


@pytest.mark.parametrize("kind", FILES)
def test_a_server_makes_of_a_table_what_pytorch_reads(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(FILES[kind]())
    tensors, table = mapped(path)
    found, expected = tensors.checkpoint(), torch.load(path, weights_only=True)
    assert_same(found, expected)
    assert found["model"]._metadata == {"": {"version": 2}}
    # Tensors that share values still do, and are told as one part.
    whole, inside = found["model"]["whole"], found["ema"]["inside"]["w"]
    assert whole.data_ptr() == inside.data_ptr() == found["model"]["part"].data_ptr() - 24
    assert list(state_dicts_in(found)) == list(state_dicts_in(expected))
    places = {place for place, _, size in table["storages"] if size}
    if sys.platform == "linux":
        assert places == {"file" if kind == "archive" else "memory"}


def test_safetensors_are_mapped_where_they_are(tmp_path: Path) -> None:
    own = {name: one.detach().contiguous().clone() for name, one in state().items()}
    path = tmp_path / "file"
    save_file(own, path)
    tensors, table = mapped(path)
    assert_same(tensors.checkpoint(), own)
    if sys.platform == "linux":
        assert {place for place, _, size in table["storages"] if size} == {"file"}


def test_what_a_network_changes_changes_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for is_old in (False, True):
        content = saved(is_old=is_old)
        path.write_bytes(content)
        tensors, _ = mapped(path)
        first = tensors.checkpoint()["model"]
        first["whole"].zero_()
        assert_same(tensors.checkpoint()["model"], checkpoint(is_old=is_old)["model"])
        assert path.read_bytes() == content


@pytest.mark.parametrize("odd", [[1], {"": [2]}, {"": {"version": "x"}}, {3: 4}])
def test_a_version_that_is_none_is_left_out(odd: Any, tmp_path: Path) -> None:
    found = OrderedDict(w=torch.ones(2))
    found._metadata = odd  # type: ignore[attr-defined]
    path = tmp_path / "file"
    torch.save(found, path)
    assert not hasattr(mapped(path)[0].checkpoint(), "_metadata")
    assert list(state_dicts_in(read_checkpoint(path))) == [()]


def test_dicts_in_each_other_end(tmp_path: Path) -> None:
    outer: dict[str, Any] = {"w": torch.ones(2)}
    outer["again"] = outer
    path = tmp_path / "file"
    torch.save(outer, path)
    found = mapped(path)[0].checkpoint()
    assert found["again"] is found
    assert len(state_dicts_in(found)) == 5


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(2).to_sparse(), "w is sparse (torch.sparse_coo)"),
        (torch.ones(2, device="meta"), "w is on the meta device, without values"),
    ],
)
def test_tensors_without_plain_values_are_told(
    tensor: torch.Tensor, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    torch.save({"w": tensor}, path)
    found = mapped(path)[0].checkpoint()
    assert found["w"].shape == (2,)
    assert unassignable(found) == words
    with pytest.raises(RuntimeError):
        torch.nn.ParameterDict({"w": torch.zeros(2)}).load_state_dict(found)


def test_more_tensors_than_any_network_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    torch.save({"a" * 5000: torch.ones(1)}, path)
    with pytest.raises(InvalidWeightsError, match="a name in it has 5,000 letters, at most 4,096"):
        mapped(path)
    torch.save({str(number): torch.ones(1) for number in range(5)}, path)
    monkeypatch.setattr(tensor_table, "MOST_TENSORS", 3)
    with pytest.raises(InvalidWeightsError, match=r"more than 3 tensors and dicts\. Save `model"):
        mapped(path)


def test_a_few_values_that_would_be_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, path)
    with pytest.raises(InvalidWeightsError, match="share values, and would have more than 67,108,"):
        mapped(path)


ROW = [0, "float32", [2, 3], [3, 1], 0]
LIES: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "beyond the file": lambda t: t["storages"].__setitem__(0, ["file", 90, 24]),
    "before the file": lambda t: t["storages"].__setitem__(0, ["file", -8, 24]),
    "elsewhere": lambda t: t["storages"].__setitem__(0, ["/etc/passwd", 0, 24]),
    "in no memory": lambda t: t["storages"].__setitem__(0, ["memory", 0, 24]),
    "a boolean": lambda t: t["storages"].__setitem__(0, ["file", True, 24]),
    "strides beyond": lambda t: t["tensors"].__setitem__(0, [0, "float32", [2, 3], [4, 1], 0]),
    "start beyond": lambda t: t["tensors"].__setitem__(0, [0, "float32", [2, 3], [3, 1], 1]),
    "too large": lambda t: t["tensors"].__setitem__(0, [0, "float32", [10**12], [1], 0]),
    "larger than 64 bits": lambda t: t["tensors"].__setitem__(0, [0, "float32", [2**70], [1], 0]),
    "larger type": lambda t: t["tensors"].__setitem__(0, [0, "float64", [2, 3], [3, 1], 0]),
    "negative size": lambda t: t["tensors"].__setitem__(0, [0, "float32", [-1], [1], 0]),
    "negative stride": lambda t: t["tensors"].__setitem__(0, [0, "float32", [2], [-1], 3]),
    "fewer strides": lambda t: t["tensors"].__setitem__(0, [0, "float32", [2, 3], [1], 0]),
    "unknown type": lambda t: t["tensors"].__setitem__(0, [0, "load", [2, 3], [3, 1], 0]),
    "unknown storage": lambda t: t["tensors"].__setitem__(0, [7, "float32", [2], [1], 0]),
    "negative storage": lambda t: t["tensors"].__setitem__(0, [-1, "float32", [2], [1], 0]),
    "unknown tensor": lambda t: t["dicts"][0]["tensors"].update(v=1),
    "unknown dict": lambda t: t["dicts"][0]["dicts"].update(v=1),
    "version of text": lambda t: t["dicts"][0].update(version="x"),
    "no dicts": lambda t: t["dicts"].clear(),
    "no table": lambda t: t.clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_makes_no_sense_is_not_believed(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    table: dict[str, Any] = {
        "dicts": [{"tensors": {"w": 0}, "dicts": {}}],
        "tensors": [list(ROW)],
        "storages": [["file", 8, 24]],
    }
    assert MappedTensors(path, table).checkpoint()["w"].shape == (2, 3)
    LIES[lie](table)
    with pytest.raises(TableError, match="the tensors in its reply can't be read: "):
        MappedTensors(path, table).checkpoint()
