"""The options of the device, the models on it, and their forward passes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ByteSize, Field

from ...host import machine_core_count
from ..written_values import Folder, parse_share

MAX_LANES = 4


class DeviceOptions(BaseModel):
    """The device, the models on it, and their forward passes."""

    device: Annotated[
        str,
        Field(
            description="device of the models, e.g. cuda:0, cpu, or the UUID of a GPU or a MIG "
            "instance; auto: a GPU if there is one"
        ),
    ] = "auto"
    device_memory: Annotated[
        ByteSize,
        Field(
            description="memory for resident models, e.g. 40GiB; 0: half the RAM, or, on a GPU, "
            "what other processes and the measured passes leave"
        ),
    ] = ByteSize(0)
    node_share: Annotated[
        float | None,
        BeforeValidator(parse_share),
        Field(
            description="share of the machine's memory and cores that this server uses by default, "
            "e.g. 1/8 for each of eight servers: host memory, memory of RDMs, threads, lanes of a "
            "CPU; within the limits of the container and the affinity; default: all",
        ),
    ] = None
    host_memory: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="host memory for models offloaded from the device, which load faster from "
            "there; 0: none; default: a quarter of the RAM with a GPU, else none",
        ),
    ] = None
    weights_dir: Annotated[
        Folder,
        Field(
            description="folder of weights: SOURCE/NAME.TAG.safetensors, torch/hub/checkpoints, "
            "huggingface/hub, uploads"
        ),
    ] = Path("~/.cache/thingsvision")
    allow_download: Annotated[
        bool, Field(description="download pretrained weights that are not in the folder")
    ] = True
    tensorflow_python: Annotated[
        str,
        Field(
            description="Python interpreter of an environment with TensorFlow; default: this one"
        ),
    ] = sys.executable
    max_batch: Annotated[
        int | None,
        Field(
            ge=1,
            description="maximum number of images in one forward pass; default: 256 on a GPU, 64 "
            "on a CPU",
        ),
    ] = None
    max_batch_bytes: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="maximum bytes of the requested activations of one forward pass; default: "
            "1 GiB on a GPU (or a sixteenth of its memory), 32 MiB on a CPU",
        ),
    ] = None
    max_input_bytes: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="maximum bytes of the inputs of one forward pass; default: 1/24 of the "
            "RAM, or of the GPU's memory if that is less",
        ),
    ] = None
    max_inner_bytes: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="maximum bytes of all activations in memory during one forward pass, as "
            "predicted from their shapes; default: 1/4 of the GPU's memory, or 3/4 of the RAM",
        ),
    ] = None
    cpu_lanes: Annotated[
        int,
        Field(ge=1, description="parallel forward passes on a CPU, each on its share of the cores"),
    ] = min(MAX_LANES, machine_core_count())
    gpu_lanes: Annotated[
        int,
        Field(
            ge=1,
            description="forward passes in progress on a GPU: the next is copied there meanwhile",
        ),
    ] = 2
    staging_memory: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="host memory for inputs on their way to the device and features on their "
            "way back, pinned for a GPU; 0: none is kept or pinned; default: a sixteenth of the "
            "RAM, at most 4 GiB. The defaults of other host memory leave it free",
        ),
    ] = None
    decode_threads: Annotated[
        int, Field(ge=1, description="threads that decode and preprocess images")
    ] = machine_core_count()
    decode_memory: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="host memory of large images (over 4 megapixels) while they are decoded "
            "and resized; more of them wait; default: an eighth of the RAM",
        ),
    ] = None
