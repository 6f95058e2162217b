"""A freshly generated stub with a 4 MB limit and none of our code reads the joined frames."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.checkout import CHECKOUT
from thingsvision_client import Client

PROTOC = "grpcio-tools==1.76.0"

STRANGER = """
import json, sys

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.ipc

sys.path.insert(0, sys.argv[1])
from thingsvision.v1 import thingsvision_pb2 as pb
from thingsvision.v1 import thingsvision_pb2_grpc as pb_grpc

address, model, modules, images, out = json.loads(sys.argv[2])


def requests():
    spec = pb.ModelSpec(source="torchvision", name=model, random_seed=0)
    many = len(images)
    header = pb.ExtractHeader(model=spec, modules=modules, batch_size=1, image_count=many)
    yield pb.ExtractRequest(header=header)
    for index, path in enumerate(images):
        with open(path, "rb") as file:
            image = pb.Image(index=index, name=path, encoded=file.read())
        yield pb.ExtractRequest(image=image)


with grpc.insecure_channel(address) as channel:
    replies = list(pb_grpc.FeatureServiceStub(channel).Extract(requests()))

parts = [reply.WhichOneof("part") for reply in replies]
assert parts == ["header", *["frame"] * (len(parts) - 2), "trailer"], parts
frames = [reply.frame for reply in replies[1:-1]]
assert [frame.index for frame in frames] == list(range(len(frames)))
with pa.ipc.open_stream(b"".join(frame.arrow_ipc for frame in frames)) as reader:
    table = reader.read_all()
table.validate(full=True)
columns = [column.name for column in replies[0].header.columns]
assert table.schema.names == ["image", *columns]
assert table.schema.field("image").type == pa.utf8()
assert replies[-1].trailer.image_count == table.num_rows
found = {"image": np.array(table["image"].to_pylist())}
for name in columns:
    column = table[name].combine_chunks()
    assert isinstance(column.type, pa.FixedShapeTensorType), column.type
    found[name] = column.to_numpy_ndarray()
np.savez(out, **found)
assert not [name for name in sys.modules if name.startswith("thingsvision_")]
print(max(len(reply.SerializeToString()) for reply in replies))
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stubs as a stranger makes them: by protoc, from the contract alone."""
    folder = tmp_path_factory.mktemp("stubs")
    arguments = [
        f"-I{CHECKOUT / 'proto'}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        "thingsvision/v1/thingsvision.proto",
    ]
    if importlib.util.find_spec("grpc_tools") is not None:
        protoc = [sys.executable, "-m", "grpc_tools.protoc"]
    else:  # it builds the project and is not installed with it
        uv = Path(sys.executable).parent / "uv"
        if not uv.exists():
            pytest.skip(f"needs {PROTOC} (or uv, to fetch it)")
        protoc = [str(uv), "tool", "run", "--from", PROTOC, "python-grpc-tools-protoc"]
    subprocess.run([*protoc, *arguments], check=True, capture_output=True, timeout=120)
    return folder


CASES = {
    "rows of 3 MB and of 4 KB": ("squeezenet1_1", ["features.0", "classifier", "features.12"]),
    "a row of 12.8 MB": ("vgg11", ["features.0"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_program_with_stock_stubs_reads_what_the_client_reads(
    server: Any, client: Client, stubs: Path, photos: list[Path], tmp_path: Path, case: str
) -> None:
    model, modules = CASES[case]
    out = tmp_path / "found.npz"
    images = [str(path) for path in photos[:3]]
    call = json.dumps([server.address, model, modules, images, str(out)])
    # -P and -I keep the checkout and PYTHONPATH off its path; its own stubs come first.
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(stubs), call],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1024 * 1024 + 1024
    with np.load(out) as found:
        ours = client.extract(f"torchvision/{model}@random:0", images, modules, batch_size=1)
        assert list(found) == ["image", *modules]
        assert found["image"].tolist() == images == ours.images
        for name in modules:
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], ours.features[name])
            assert found[name].std() > 0
