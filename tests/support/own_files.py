"""Files of whole models, changed programs among them, and what PyTorch itself makes of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import nn

from support.own_networks import SIZE, Net

DECLARED = {
    "resize_pixels": [40],
    "crop_pixels": [SIZE],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
}


def onnx_file(net: Net, path: Path, batch: Any = "batch") -> Path:
    """Write a network down by hand: exporters rename what they export."""
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
    """Preprocess as the declaration above says, without the server's code."""
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
    """PyTorch's own outputs of modules; the last output if one runs several times."""
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
