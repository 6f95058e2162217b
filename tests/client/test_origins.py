"""The origin of features stays with arrays and their rows, and is saved beside their files."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.sent_images import messages
from thingsvision_client import PreprocessingOverrides, errors, origins, save_features
from thingsvision_client.images.queue import queue_images
from thingsvision_client.labels import memory
from thingsvision_client.labels.memory import SWITCH_VARIABLE
from thingsvision_client.origins import Fingerprint, origin_of, remember, write_origin

Remembered = Callable[..., Any]


@pytest.fixture
def remembered() -> Remembered:
    """Make features of six images whose origin is known."""

    def make(module: str = "fc", *shape: int, **facts: Any) -> Any:
        array = np.arange(6 * int(np.prod(shape)), dtype=np.float32).reshape(6, *shape)
        images = tuple(Fingerprint(f"{row}.png", f"sha {row}") for row in range(6))
        remember(array, {"model": "m", "module": module, "images": images, **facts})
        return array

    return make


def test_fingerprints_are_of_the_bytes_that_are_sent() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    files = [("a", b"first"), ("ü", b"second")]
    for images, contents in ((files, [b"first", b"second"]), ([("x", values)], [values.tobytes()])):
        queue, seen = origins.record_fingerprints(queue_images(images))
        assert not seen
        sent = list(messages(queue))
        assert [image.name for image in sent] == [image.name for image in seen]
        expected = [hashlib.sha256(content).hexdigest() for content in contents]
        assert [image.sha256 for image in seen] == expected
    assert seen[0].kind == "tensor"


def test_rows_of_an_array_keep_their_origin(remembered: Remembered) -> None:
    array = remembered("conv", 2, 3)
    for part, rows in [
        (array, [0, 6]),
        (array[2:5], [2, 5]),
        (array.reshape(6, -1), [0, 6]),
        (array.reshape(6, 6)[4:].reshape(2, 3, 2), [4, 6]),
        (array[1:][1:2], [2, 3]),
    ]:
        origin = origin_of(part)
        assert origin is not None
        assert (origin["module"], origin["rows"]) == ("conv", rows)
        assert [image["name"] for image in origin["images"]] == [
            f"{row}.png" for row in range(*rows)
        ]


def test_arrays_that_are_not_rows_have_no_origin(remembered: Remembered) -> None:
    array = remembered("conv", 2, 3)
    others = [array.copy(), array + 0, array[:, :1], array[::2], array[::-1], array[0], array.T]
    others += [array.view(np.int32), array.ravel()[3:9], np.zeros((6, 2, 3), np.float32)]
    assert [origin_of(other) for other in others] == [None] * len(others)


def test_switched_off_nothing_is_remembered_and_files_keep_their_values(
    remembered: Remembered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {}
    for switch in ("1", "0"):
        monkeypatch.setenv(SWITCH_VARIABLE, switch)
        array = remembered()
        assert (origin_of(array) is None) == (switch == "0")
        save_features(array, tmp_path / switch, "npy")
        values[switch] = (tmp_path / switch / "features.npy").read_bytes()
        told = json.loads((tmp_path / switch / "features.npy.json").read_text())
        assert ("model" in told) == ("images" in told) == (switch == "1")
    assert values["0"] == values["1"]


def test_an_origin_lives_as_long_as_its_memory(remembered: Remembered) -> None:
    view = remembered("fc", 4)[3:]
    gc.collect()
    origin = origin_of(view)
    assert origin is not None
    assert origin["rows"] == [3, 6]
    before = len(memory._MEMORIES)
    del view, origin
    gc.collect()
    assert len(memory._MEMORIES) == before - 1


def test_an_origin_lies_beside_the_file(remembered: Remembered, tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    arrays = {"conv": remembered("conv", 2, 3), "fc": remembered("fc", 5)[1:4]}
    np.savez(path, **arrays)
    write_origin(path, arrays)
    told = origins.read_origin(path)
    assert told == json.loads((tmp_path / "features.npz.json").read_text("utf-8"))
    assert told["model"] == "m"
    assert told["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    conv = {"module": "conv", "shape": [6, 2, 3], "dtype": "float32", "rows": [0, 6]}
    assert told["modules"]["conv"] == conv
    assert told["modules"]["fc"]["rows"] == [1, 4]
    assert told["images"][5] == {"name": "5.png", "sha256": "sha 5"}
    assert len(told["images"]) == 6
    assert "[6, 2, 3]" in (tmp_path / "features.npz.json").read_text(), "a line for each number"


def test_pieces_share_the_images_that_they_span(remembered: Remembered, tmp_path: Path) -> None:
    path = tmp_path / "features.hdf5"
    path.write_bytes(b"pieces")
    array = remembered("fc", 5)
    write_origin(path, {"late": array[3:5], "early": array[1:3], "both": array[1:4]})
    told = origins.read_origin(path)
    assert told["rows"] == [1, 5]
    assert [image["name"] for image in told["images"]] == [f"{row}.png" for row in range(1, 5)]
    write_origin(path, {"first": array[:1], "last": array[5:]})
    told = origins.read_origin(path)
    assert "images" not in told, "rows between them are not in the file"
    assert [image["name"] for image in told["origins"]["last"]["images"]] == ["5.png"]


def test_other_models_have_origins_of_their_own(remembered: Remembered, tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    path.write_bytes(b"two")
    plain = np.ones((6, 2))
    write_origin(path, {"a": remembered("fc", 2), "b": remembered("fc", 2, model="n"), "c": plain})
    told = origins.read_origin(path)
    assert {name: origin["model"] for name, origin in told["origins"].items()} == {
        "a": "m",
        "b": "n",
    }
    assert told["modules"]["c"]["module"] is None
    write_origin(path, plain)
    told = origins.read_origin(path)
    assert "is unknown" in told["note"]
    assert told["modules"]["features"]["shape"] == [6, 2]


def test_files_without_a_readable_origin_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    with pytest.raises(errors.InvalidRequestError, match=r"There is no file '.*features\.npy'"):
        origins.read_origin(path)
    path.touch()
    with pytest.raises(errors.InvalidRequestError, match=r"features\.npy\.json must lie beside it"):
        origins.read_origin(path)
    (tmp_path / "features.npy.json").write_text("{")
    with pytest.raises(errors.InvalidRequestError, match=r"features\.npy\.json"):
        origins.read_origin(path)
    (tmp_path / "features.npy.json").write_text('{"format": 99}')
    with pytest.raises(errors.InvalidRequestError, match="format 1"):
        origins.read_origin(path)


def test_changes_of_the_preprocessing_come_back_from_json() -> None:
    changes = PreprocessingOverrides(resize=np.int64(48), crop=False, mean=np.array([0.5, 0, 1]))
    told = origins.changes_to_json(changes)
    assert json.loads(json.dumps(told)) == told
    assert told is not None
    assert PreprocessingOverrides(**told).to_message() == changes.to_message()
    assert origins.changes_to_json(None) is None
    assert origins.changes_to_json(PreprocessingOverrides()) is None
