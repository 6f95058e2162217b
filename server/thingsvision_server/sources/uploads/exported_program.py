"""Loads a checked `torch.export` program with its weights."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import torch

from .exported_outline import define_mark

_loading = threading.Lock()
"""PyTorch can read only one program at a time."""


def load_program(path: Path, program: dict[str, Any]) -> torch.export.ExportedProgram:
    """Load like `torch.export.load`, but without its pickles, guards and fallbacks.

    `program` is the content that `read_program` returns for the file; raises what PyTorch raises.
    """
    from torch._export.serde import schema
    from torch._export.serde.serialize import ExportedProgramDeserializer, _bytes_to_dataclass
    from torch.export.pt2_archive._package import (
        PT2ArchiveReader,
        _load_constants,
        _load_state_dict,
    )

    with _loading:
        define_mark()
        serialised = _bytes_to_dataclass(schema.ExportedProgram, json.dumps(program).encode())
        with path.open("rb") as file, PT2ArchiveReader(file) as archive:
            weights = _load_state_dict(archive, "model")
            constants = _load_constants(archive, "model")
        return ExportedProgramDeserializer().deserialize(serialised, weights, constants, b"")
