"""Compiles the contract into Python stubs with protoc.

Runs as the project's build hook, so that every install has stubs that match its contract. To run
it by hand: `python proto/compile.py` (with the `requires` of pyproject.toml installed).

Messages are compiled by protoc 25, whose stubs load with protobuf 3.20 to 7; stubs of newer ones
refuse every protobuf older than themselves, and so TensorFlow before 2.20. Services are compiled by
grpcio-tools, which has gRPC's plugin; their stubs don't import protobuf.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import protoc
from grpc_tools import protoc as grpc_protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO_DIR = Path(__file__).resolve().parent
CONTRACT_DIR = PROTO_DIR / "thingsvision" / "v1"
STUBS_DIR = PROTO_DIR / "thingsvision_proto" / "v1"


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the stubs before a wheel or an editable install is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the package folder, where the build finds the stubs."""
        compile_stubs()


def compile_stubs() -> None:
    """Write `thingsvision_proto/v1/*_pb2{,_grpc}.py{,i}`; raise RuntimeError if protoc fails."""
    STUBS_DIR.mkdir(parents=True, exist_ok=True)
    (STUBS_DIR / "__init__.py").write_text('"""Generated from the contract; do not edit."""\n')
    # This mapping of the contract's folder to the package makes protoc write absolute imports.
    contract = [
        f"-Ithingsvision_proto/v1={CONTRACT_DIR}",
        *(f"thingsvision_proto/v1/{path.name}" for path in sorted(CONTRACT_DIR.glob("*.proto"))),
    ]
    messages = [protoc.PROTOC_EXE, f"--python_out={PROTO_DIR}", f"--pyi_out={PROTO_DIR}", *contract]
    services = ["protoc", f"--grpc_python_out={PROTO_DIR}", *contract]
    if subprocess.run(messages).returncode != 0 or grpc_protoc.main(services) != 0:  # noqa: S603
        raise RuntimeError(f"protoc failed: {' '.join(messages)}; {' '.join(services)}")


if __name__ == "__main__":
    compile_stubs()
