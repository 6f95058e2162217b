"""Whole models of users: run as they are, tapped by their own names, refused with a reason."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import nn

from own_networks import SEEDS, SIZE, Net, Pairs, network
from serving import TestServer, serving
from thingsvision_client import Client, Model, PreprocessingOverrides
from thingsvision_client.errors import (
    InvalidRequestError,
    InvalidWeightsError,
    ModelInUseError,
    NotExtractableError,
    UnknownModelError,
    UnknownModuleError,
    UnknownWeightsError,
)
from thingsvision_server.sources.uploads.exported_sizes import is_safe_size

DECLARED = {
    "resize_pixels": [40],
    "crop_pixels": [SIZE],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
}


def onnx_file(net: Net, path: Path, batch: Any = "batch") -> Path:
    """The network above, written down by hand: exporters rename what they export."""
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    state["pads"] = np.array(2, np.int64)
    nodes = [
        helper.make_node("Conv", ["image", "stem.0.weight", "stem.0.bias"], ["stem/conv"],
                         strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["stem/conv", "stem.1.weight", "stem.1.bias",
                         "stem.1.running_mean", "stem.1.running_var"], ["stem/norm"]),
        helper.make_node("Relu", ["stem/norm"], ["act"]),
        helper.make_node("Conv", ["act", "body.0.weight", "body.0.bias"], ["body"],
                         pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["body"], ["act2"]),
        helper.make_node("Mul", ["act2", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Shape", ["mean"], ["shape"]),
        helper.make_node("Gemm", ["mean", "head.weight", "head.bias"], ["logits"], transB=1),
    ]  # fmt: skip
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, 5])
    weights = [numpy_helper.from_array(values, name) for name, values in state.items()]
    graph = helper.make_graph(nodes, "Net", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("server"), drain_seconds=1.0) as running:
        yield running


@pytest.fixture
def client(server: TestServer) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the programs that `own_networks` writes."""
    folder = tmp_path_factory.mktemp("programs")
    script = Path(__file__).parents[1] / "own_networks.py"
    subprocess.run([sys.executable, script, folder], check=True, timeout=200)
    return folder


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Return an archive whose files a function changed, by their names without the folder."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(files)).partition("/")[0]
    short = {name.removeprefix(f"{root}/"): content for name, content in files.items()}
    change(short)
    target = path.with_name("rewritten.pt2")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in short.items():
            # Without a time of its own: the same content is the same file.
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), content)
    return target


def in_program(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        program = json.loads(files["models/model.json"])
        change(program)
        files["models/model.json"] = json.dumps(program).encode()

    return apply


def copied(programs: Path, name: str) -> Path:
    """Return a file of another digest with the same program."""
    change = in_program(lambda program: program.update(torch_version=name))
    return rewritten(programs / "any.pt2", change).rename(programs / f"{name}.pt2")


def inputs(photos: list[Path]) -> torch.Tensor:
    """What the declaration above says, by other means than the server's."""
    made = []
    for path in photos:
        image = Image.open(path).convert("RGB")
        width, height = image.size
        short = min(width, height)
        size = (int(40 * width / short), int(40 * height / short))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (round((side - SIZE) / 2) for side in size)
        pixels = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32)
        values = (pixels / 255 - DECLARED["mean"]) / DECLARED["std"]
        made.append(values.transpose(2, 0, 1).astype(np.float32))
    return torch.from_numpy(np.stack(made))


def hooked(net: nn.Module, batch: torch.Tensor, names: list[str]) -> dict[str, np.ndarray]:
    """The outputs of modules by PyTorch itself; the last where one runs several times."""
    found: dict[str, np.ndarray] = {}
    modules = dict(net.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda _m, _i, output, name=name: found.update({name: output.clone().numpy()})
        )
        for name in names
    ]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    return found


# ---------------------------------------------------------------- torch.export programs


def test_a_program_has_its_own_modules_and_gives_what_the_network_gives(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["any"])
    model = client.upload_model(programs / "any.pt2", DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert list(modules) == [
        "",
        "stem",
        "stem.0",
        "stem.1",
        "act",
        "body",
        "body.0",
        "body.1",
        "head",
    ]
    assert (modules["stem.0"].type, modules["body"].type) == ("Conv2d", "Sequential")
    assert (modules["act"].call_count, modules["head"].output_shape) == (2, (5,))
    assert modules[""].parameter_count == sum(p.numel() for p in net.parameters())
    names = ["stem.0", "act", "body.0", "head", ""]
    result = client.extract(model, photos, names)
    for name, expected in hooked(net, inputs(photos), names).items():
        np.testing.assert_allclose(result.features[name], expected, rtol=1e-5, atol=1e-6)
    own = result.provenance
    assert str(own.model) == f"own/{model.name}@sha256:{model.name}"
    assert (own.preprocessing.mean, own.preprocessing.crop_pixels) == ((0.5, 0.4, 0.3), (SIZE,))


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_whole_models_keep_the_memory_format_that_they_were_written_for(
    client: Client, programs: Path, photos: list[Path], tmp_path: Path, kind: str
) -> None:
    onnx_path = tmp_path / "net.onnx"
    path = copied(programs, "net") if kind == "pt2" else onnx_file(network(6), onnx_path)
    model = client.upload_model(path, DECLARED)
    with pytest.raises(
        InvalidRequestError, match="can't compute in channels_last on cpu; valid: contiguous"
    ):
        client.extract(model, photos, "", memory_format="channels_last")


def test_a_pass_that_ends_early_does_not_shift_the_calls_of_the_next(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(copied(programs, "early"), DECLARED)
    whole = client.extract(model, photos, ["act@all", ""], batch_size=3).features
    for _ in range(3):
        first = client.extract(model, photos, ["act@t=0"], batch_size=3).features["act@t=0"]
        np.testing.assert_array_equal(first, whole["act@all"][:, 0])
    last = client.extract(model, photos, ["act"], batch_size=3).features["act"]
    np.testing.assert_array_equal(last, whole["act@all"][:, 1])


def test_a_program_of_one_image_runs_images_one_by_one(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["one"])
    model = client.upload_model(programs / "one.pt2", DECLARED)
    result = client.extract(model, photos, ["body.0", ""]).features
    for name, expected in hooked(net, inputs(photos), ["body.0", ""]).items():
        np.testing.assert_allclose(result[name], expected, rtol=1e-5, atol=1e-6)


def test_a_program_of_few_images_runs_them_in_parts(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["few"])
    model = client.upload_model(programs / "few.pt2", DECLARED)
    result = client.extract(model, [*photos, *photos][:7], ["head"], batch_size=7).features["head"]
    expected = hooked(net, inputs([*photos, *photos][:7]), ["head"])["head"]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_model_of_exactly_four_images_is_refused_with_the_way_out(
    client: Client, programs: Path, tmp_path: Path, kind: str
) -> None:
    path = programs / "four.pt2"
    if kind == "onnx":
        path = onnx_file(network(4), tmp_path / "four.onnx", batch=4)
    model = client.upload_model(path, DECLARED)
    with pytest.raises(InvalidRequestError, match=r"exactly 4 images.*torch.export.Dim.\"batch\""):
        client.modules(model)


def test_a_program_of_any_size_takes_the_sizes_of_a_request(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(programs / "sizes.pt2", DECLARED)
    changed = PreprocessingOverrides(crop=(24, 40))
    found = client.extract(model, photos, "stem", preprocessing=changed).features["stem"]
    assert found.shape == (len(photos), 8, 12, 20)
    assert client.extract(model, photos, "stem").features["stem"].shape[1:] == (8, 16, 16)


def test_what_modules_of_a_program_share_does_not_stand_for_their_outputs(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(programs / "pairs.pt2", DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert modules["blocks.0"].output_shape == (3, SIZE * SIZE)
    found = client.extract(model, photos, ["blocks.0", "blocks.1", ""]).features
    batch = inputs(photos)
    net = Pairs()
    for name, expected in hooked(net, batch, ["blocks.0", "blocks.1", ""]).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(NotExtractableError, match=r"'pair'.*several values.*keep their order"):
        client.extract(model, photos, "pair")


# ---------------------------------------------------------------- ONNX


def test_an_onnx_model_gives_what_onnxruntime_and_pytorch_give(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    net, path = network(6), tmp_path / "net.onnx"
    model = client.upload_model(onnx_file(net, path), DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert list(modules)[:4] == ["", "stem/conv", "stem/norm", "act"]
    assert (modules["stem/conv"].type, modules["stem/conv"].output_shape) == ("Conv", (8, 16, 16))
    assert "strides=[2, 2]" in modules["stem/conv"].attributes
    assert modules["stem/conv"].parameter_count == 3 * 8 * 9 + 8
    assert "int64, not floating point" in modules["shape"].reason
    batch = inputs(photos)
    result = client.extract(model, photos, ["stem/conv", "body", "logits", ""]).features
    plain = onnxruntime.InferenceSession(path).run(None, {"image": batch.numpy()})[0]
    np.testing.assert_allclose(result["logits"], plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result["logits"], result[""])
    for name, place in {"stem.0": "stem/conv", "body.0": "body", "head": "logits"}.items():
        expected = hooked(net, batch, [name])[name]
        np.testing.assert_allclose(result[place], expected, rtol=1e-4, atol=1e-5)
    entry = {one.name: one for one in client.models("own")}[model.name]
    assert entry.backend == "onnx"


def test_a_tap_of_onnx_has_the_same_bits_whatever_else_is_asked_for(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    model = client.upload_model(onnx_file(network(7), tmp_path / "net.onnx"), DECLARED)
    names = ["stem/conv", "stem/norm", "act", "body", "mean", "logits"]
    together = client.extract(model, photos, names, batch_size=3).features
    for name in names:
        alone = client.extract(model, photos, [name], batch_size=3).features[name]
        np.testing.assert_array_equal(alone, together[name])


def test_an_onnx_model_of_one_image_runs_images_one_by_one(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    net = network(8)
    model = client.upload_model(onnx_file(net, tmp_path / "one.onnx", batch=1), DECLARED)
    result = client.extract(model, photos, "logits").features["logits"]
    expected = hooked(net, inputs(photos), ["head"])["head"]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_what_has_no_row_per_image_is_told(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    model = client.upload_model(onnx_file(network(9), tmp_path / "net.onnx"), DECLARED)
    with pytest.raises(NotExtractableError, match=r"'shape'.*int64, not floating point"):
        client.extract(model, photos, "shape")
    with pytest.raises(UnknownModuleError, match="Did you mean 'stem/conv'"):
        client.extract(model, photos, "stem/con")


# ---------------------------------------------------------------- Keras archives

KERAS = """
import sys
import keras, numpy as np
from keras import layers
keras.utils.set_random_seed(0)
image = layers.Input((32, 32, 3), name="image")
x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
x = layers.BatchNormalization(name="norm")(x)
model = keras.Model(image, layers.Dense(5, name="last")(layers.GlobalAveragePooling2D()(x)))
model.save(sys.argv[1])
batch = np.load(sys.argv[2])
sub = keras.Model(model.inputs, [model.get_layer("conv").output, model.output])
np.savez(sys.argv[3], **dict(zip(("conv", "last"), sub.predict(batch, verbose=0))))
"""


def test_a_keras_archive_gives_what_keras_gives(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    batch, path, out = tmp_path / "batch.npy", tmp_path / "net.keras", tmp_path / "out.npz"
    # BGR, -1..1, channels last: another declaration than the one above.
    pixels = [
        np.asarray(Image.open(p).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
        for p in photos
    ]
    np.save(batch, (np.stack(pixels)[..., ::-1] / 127.5 - 1).astype(np.float32))
    subprocess.run([sys.executable, "-c", KERAS, path, batch, out], check=True, timeout=200)
    declared = {
        "resize_pixels": [32, 32],
        "interpolation": "bicubic",
        "value_range": "-1..1",
        "channel_order": "BGR",
    }
    model = client.upload_model(path, declared)
    found = client.extract(model, photos, ["conv", "last"])
    expected = np.load(out)
    for name in ("conv", "last"):
        np.testing.assert_allclose(found.features[name], expected[name], rtol=1e-4, atol=1e-5)
    assert found.provenance.framework.startswith("tensorflow")
    assert found.provenance.preprocessing.channel_order == "BGR"


# ---------------------------------------------------------------- declarations and lists


def test_a_model_without_a_declaration_takes_tensors_and_says_so(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["any"])
    model = client.upload_model(copied(programs, "undeclared"))
    with pytest.raises(InvalidRequestError, match=r"without its preprocessing.*only tensors"):
        client.extract(model, photos, "head")
    batch = inputs(photos)
    expected = hooked(net, batch, ["head"])["head"]
    found = client.extract(model, batch.numpy(), "head").features["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    overrides = PreprocessingOverrides(40, SIZE, mean=DECLARED["mean"], std=DECLARED["std"])
    found = client.extract(model, photos, "head", preprocessing=overrides).features["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # Declared later, it takes images.
    assert client.upload_model(copied(programs, "undeclared"), DECLARED) == model
    found = client.extract(model, photos, "head").features["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_another_declaration_of_a_file_is_refused_until_it_is_deleted(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    path = copied(programs, "twice")
    model = client.upload_model(path, DECLARED)
    assert client.upload_model(path, DECLARED | {"interpolation": "bilinear"}) == model
    other = DECLARED | {"std": [1, 1, 1]}
    with pytest.raises(InvalidRequestError) as refusal:
        client.upload_model(path, other)
    for word in ("std [0.2, 0.25, 0.3] and not [1.0, 1.0, 1.0]", "delete-upload", "override"):
        assert word in str(refusal.value)
    client.extract(model, photos, "head")
    with pytest.raises(ModelInUseError, match=f"own/{model.name}@sha256:.* is in memory; unload"):
        client.delete_upload(model.name)
    client.unload(model)
    client.delete_upload(model.name)
    with pytest.raises(UnknownModelError, match=f"no model '{model.name}'"):
        client.extract(model, photos, "head")
    client.upload_model(path, other)
    assert client.extract(model, photos, "head").provenance.preprocessing.std == (1, 1, 1)


BAD_DECLARATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"resize_pixels": [40]}, "crop_pixels, or resize_pixels of height and width"),
    "interpolation": ({"crop_pixels": [32], "interpolation": "best"}, "'best'. Valid: nearest"),
    "range": ({"crop_pixels": [32], "value_range": "0..2"}, "'0..2'. Valid: 0..1, 0..255, -1..1"),
    "order": ({"crop_pixels": [32], "channel_order": "GBR"}, "'GBR'. Valid: RGB, BGR"),
    "mean": ({"crop_pixels": [32], "mean": [1]}, "mean has a number for each of 3 channels"),
    "std": ({"crop_pixels": [32], "std": [1, 0, 1]}, "std has a 0"),
    "field": ({"crop_pixel": [32]}, "Valid: resize_pixels, interpolation"),
}


@pytest.mark.parametrize("case", BAD_DECLARATIONS)
def test_a_declaration_that_makes_no_sense_is_refused(
    client: Client, tmp_path: Path, case: str
) -> None:
    declared, words = BAD_DECLARATIONS[case]
    path = onnx_file(network(12), tmp_path / "net.onnx")
    with pytest.raises(InvalidRequestError) as refusal:
        client.upload_model(path, declared)
    assert words in str(refusal.value)


def test_a_declaration_that_does_not_fit_the_model_is_told(client: Client, tmp_path: Path) -> None:
    path = onnx_file(network(13), tmp_path / "net.onnx")
    model = client.upload_model(path, DECLARED | {"crop_pixels": [24]})
    with pytest.raises(InvalidRequestError, match="takes inputs of 3 x 32 x 32, not 3 x 24 x 24"):
        client.modules(model)


def test_a_new_model_is_listed_at_once_with_its_declaration(client: Client, programs: Path) -> None:
    client.models("own")
    model = client.upload_model(copied(programs, "listed"), DECLARED)
    listed = {one.name: one for one in client.models("own", f"{model.name[:8]}*")}[model.name]
    (weights,) = listed.pretrained
    assert Model("own", model.name, weights.tag).to_spec().weights_sha256 == model.name
    assert weights.preprocessing is not None
    assert weights.preprocessing.std == (0.2, 0.25, 0.3)
    assert listed.backend == "pt"


def test_models_are_named_by_the_digest_of_their_file(client: Client, tmp_path: Path) -> None:
    model = client.upload_model(onnx_file(network(15), tmp_path / "net.onnx"), DECLARED)
    with pytest.raises(UnknownModelError, match=r"by the SHA-256 of its file. Did you mean"):
        client.modules(f"own/{model.name[:-1]}")
    with pytest.raises(UnknownWeightsError, match="has its weights in its file, and no random:1"):
        client.modules(f"own/{model.name}@random:1")
    tensors = tmp_path / "weights.pt"
    torch.save(network(16).state_dict(), tensors)
    weights = client.upload_weights(tensors)
    with pytest.raises(UnknownModelError, match=f"no whole model .torch.*sha256:{weights}"):
        client.modules(f"own/{weights}")


# ---------------------------------------------------------------- programs that are refused


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


def enum_in_a_spec(program: dict[str, Any]) -> None:
    spec = program["graph_module"]["module_call_graph"][0]["signature"]
    spec["out_spec"] = json.dumps([1, {"type": "collections.defaultdict", "context": "{}",
                                       "children_spec": []}])  # fmt: skip


REFUSED: dict[str, tuple[Callable[[dict[str, bytes]], None], tuple[str, ...]]] = {
    "compiled code": (
        lambda files: files.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
        ("aotinductor", "compiled code"),
    ),
    "another file": (lambda files: files.update({"x.py": b"1"}), ("'x.py'", "nothing")),
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
    "code in a key": (in_program(code_in_a_key), ("exit",)),
    "code in a size": (in_program(code_in_a_size), ("abort", "expr_str")),
    "a type that imports modules": (in_program(enum_in_a_spec), ("defaultdict", "out_spec")),
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
    with pytest.raises(InvalidWeightsError, match=r"pickled|nothing that a program needs"):
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
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not armed.exists()


def test_guards_are_not_run(client: Client, program: Path, photos: list[Path]) -> None:
    guards = in_program(lambda p: p.update(guards_code=["__import__('os').abort()"]))
    model = client.upload_model(rewritten(program, guards), DECLARED)
    assert client.extract(model, photos, "head").features["head"].shape == (len(photos), 5)


def test_a_network_exported_as_it_trains_is_refused(client: Client, programs: Path) -> None:
    path = programs / "training.pt2"
    with pytest.raises(InvalidWeightsError, match=r"training mode. Call model.eval\(\)"):
        client.upload_model(path)


def test_no_damaged_program_is_more_than_an_invalid_one(
    client: Client, program: Path, photos: list[Path]
) -> None:
    """Values are changed at random, where the archive still is one; all of it stays in JSON."""
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


SIZES = [
    ("s77", True),
    ("Symbol('s77', positive=True, integer=True)", True),
    ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
    ("FloorDiv(s0, 2) + 1", True),
    ("Pow(s0, 2)", True),
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
