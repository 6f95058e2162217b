"""All options of the server, from the command line or environment variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

_MIB = 1024 * 1024


class Settings(BaseSettings):
    """Serve hidden-layer activations of vision networks, and RDMs of them, over gRPC.

    Every option can also be set by an environment variable: THINGSVISION_ and the option's
    name in capitals, e.g. THINGSVISION_DEVICE_MEMORY=40GiB. The command line takes precedence.
    """

    model_config = SettingsConfigDict(
        env_prefix="THINGSVISION_",
        cli_prog_name="thingsvision-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 for all")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="gRPC port; 0 for a free port")] = 50051
    metrics_port: Annotated[
        int, Field(ge=0, le=65535, description="HTTP port of /metrics for Prometheus; 0 for none")
    ] = 9090
    device: Annotated[
        str,
        Field(description="device of the models, e.g. cuda:0 or cpu; auto: a GPU if there is one"),
    ] = "auto"
    device_memory: Annotated[
        ByteSize,
        Field(
            description="memory for resident models, e.g. 40GiB; 0: 80 % of the GPU's memory, or, "
            "on a CPU, half the RAM"
        ),
    ] = ByteSize(0)
    host_memory: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="host memory for models offloaded from the device, which load faster from "
            "there; 0: none; default: a quarter of the RAM with a GPU, else none",
        ),
    ] = None
    weights_dir: Annotated[
        Path,
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
        int, Field(ge=1, description="maximum number of images in one forward pass")
    ] = 64
    max_batch_bytes: Annotated[
        ByteSize, Field(gt=0, description="maximum bytes of activations of one forward pass")
    ] = ByteSize(32 * _MIB)
    cpu_lanes: Annotated[
        int,
        Field(ge=1, description="parallel forward passes on a CPU, each on its share of the cores"),
    ] = min(4, os.cpu_count() or 1)
    decode_threads: Annotated[
        int, Field(ge=1, description="threads that decode and preprocess images")
    ] = os.cpu_count() or 1
    max_image_bytes: Annotated[
        ByteSize, Field(gt=0, description="maximum file size of one image")
    ] = ByteSize(64 * _MIB)
    max_image_pixels: Annotated[int, Field(ge=1, description="maximum pixels of one image")] = (
        100_000_000
    )
    image_store: Annotated[
        ByteSize,
        Field(description="disk space of the cache of images that clients sent; 0: none"),
    ] = ByteSize(10 * 1024 * _MIB)
    image_root: Annotated[
        Path | None,
        Field(
            description="folder of images that any user may request by relative path; default: none"
        ),
    ] = None
    max_upload_bytes: Annotated[
        ByteSize, Field(gt=0, description="maximum size of one uploaded file")
    ] = ByteSize(16 * 1024 * _MIB)
    upload_quota: Annotated[
        ByteSize, Field(gt=0, description="disk quota of all uploaded files together")
    ] = ByteSize(64 * 1024 * _MIB)
    pca_quota: Annotated[
        ByteSize, Field(ge=0, description="disk quota of all fitted PCAs together")
    ] = ByteSize(16 * 1024 * _MIB)
    rdm_features_memory: Annotated[
        ByteSize,
        Field(
            ge=0,
            description="host memory for the features of one RDM or PCA; features beyond it are "
            "spilled to disk",
        ),
    ] = ByteSize(1024 * _MIB)
    rdm_memory: Annotated[
        ByteSize,
        Field(ge=0, description="host memory for the RDMs or the PCA of one call; 0: half the RAM"),
    ] = ByteSize(0)
    spill_dir: Annotated[
        Path | None,
        Field(description="folder for spilled features; default: the system's temporary folder"),
    ] = None
    fast_max_pool: Annotated[
        bool,
        Field(description="compute max pools on a CPU row by row; off: with PyTorch, same values"),
    ] = True
    skip_initialisation: Annotated[
        bool,
        Field(
            description="build networks without the initial values that a file replaces; off: "
            "draw them, then copy the file's values; same bits"
        ),
    ] = True
    keep_freed_memory: Annotated[
        bool,
        Field(
            description="on Linux, keep memory that a layer frees for the next layer; off: the C "
            "library's defaults"
        ),
    ] = True
    rdm_thread_pool: Annotated[
        bool,
        Field(
            description="compute RDMs and PCAs on a CPU with one independent thread for each core; "
            "off: with the threads of BLAS; last bits may differ"
        ),
    ] = True
    fast_frames: Annotated[
        bool,
        Field(description="write frames of features without copies; off: protobuf writes them"),
    ] = True
    throttle_imports: Annotated[
        bool,
        Field(
            description="delay the imports of a starting server, by at most 1 s, while a list of "
            "models is sent"
        ),
    ] = True
    parent: Annotated[
        int,
        Field(
            ge=0,
            description="id of a process that needs the server, which stops when that ends; 0: "
            "none",
        ),
    ] = 0
    parent_log: Annotated[
        str,
        Field(description="log of the server, which it deletes when it stops because of --parent"),
    ] = ""
    drain_seconds: Annotated[
        float, Field(ge=0, description="seconds that running calls have to finish after SIGTERM")
    ] = 30.0
    log_format: Annotated[
        Literal["json", "console"],
        Field(description="json: one object per line; console: for people"),
    ] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="lowest level that is logged"),
    ] = "info"


def read_settings() -> Settings:
    """Return the settings of the command line and environment; exit with a line per invalid one."""
    try:
        return CliApp.run(Settings)
    except ValidationError as error:
        mistakes = [
            f"--{str(one['loc'][0]).replace('_', '-')} can't be {one['input']!r}: {one['msg']}"
            for one in error.errors()
        ]
        sys.exit("\n".join(f"thingsvision-server: {mistake}" for mistake in mistakes))
