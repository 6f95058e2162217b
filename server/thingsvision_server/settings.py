"""Every option of the server, from the command line or `THINGSVISION_*`."""

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
    name in capitals, e.g. THINGSVISION_DEVICE_MEMORY=40GiB. The command line wins.
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
    port: Annotated[int, Field(ge=0, le=65535, description="gRPC port; 0 takes a free one")] = 50051
    metrics_port: Annotated[
        int, Field(ge=0, le=65535, description="HTTP port of /metrics for Prometheus; 0: none")
    ] = 9090
    device: Annotated[
        str, Field(description="device of the models, e.g. cuda:0 or cpu; auto: a GPU if any")
    ] = "auto"
    device_memory: Annotated[
        ByteSize,
        Field(description="memory for resident models, e.g. 40GiB; 0: 80 % of a GPU, half the RAM"),
    ] = ByteSize(0)
    host_memory: Annotated[
        ByteSize | None,
        Field(
            ge=0,
            description="host memory for models that had to leave the device, to come back "
            "sooner; 0: none; default: a quarter of the RAM beside a GPU, else none",
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
        bool, Field(description="fetch pretrained weights that are not in the folder")
    ] = True
    tensorflow_python: Annotated[
        str,
        Field(description="interpreter of an environment with TensorFlow; default: this one"),
    ] = sys.executable
    max_batch: Annotated[int, Field(ge=1, description="images in one forward pass, at most")] = 64
    max_batch_bytes: Annotated[
        ByteSize, Field(gt=0, description="activations of one forward pass, at most")
    ] = ByteSize(32 * _MIB)
    cpu_lanes: Annotated[
        int,
        Field(ge=1, description="forward passes at once on a CPU, each on its share of cores"),
    ] = min(4, os.cpu_count() or 1)
    decode_threads: Annotated[
        int, Field(ge=1, description="threads that decode and preprocess images")
    ] = os.cpu_count() or 1
    max_image_bytes: Annotated[
        ByteSize, Field(gt=0, description="file size of one image, at most")
    ] = ByteSize(64 * _MIB)
    max_image_pixels: Annotated[int, Field(ge=1, description="pixels of one image, at most")] = (
        100_000_000
    )
    image_store: Annotated[
        ByteSize,
        Field(description="disk space for images that are kept for later requests; 0: none"),
    ] = ByteSize(10 * 1024 * _MIB)
    image_root: Annotated[
        Path | None,
        Field(description="folder of images that every user may name by its relative path"),
    ] = None
    max_upload_bytes: Annotated[
        ByteSize, Field(gt=0, description="size of one uploaded file, at most")
    ] = ByteSize(16 * 1024 * _MIB)
    upload_quota: Annotated[
        ByteSize, Field(gt=0, description="disk space of all uploaded files together, at most")
    ] = ByteSize(64 * 1024 * _MIB)
    pca_quota: Annotated[
        ByteSize, Field(ge=0, description="disk space of all fitted PCAs together, at most")
    ] = ByteSize(16 * 1024 * _MIB)
    rdm_features_memory: Annotated[
        ByteSize,
        Field(ge=0, description="host memory for features of one RDM or PCA; more is spilled"),
    ] = ByteSize(1024 * _MIB)
    rdm_memory: Annotated[
        ByteSize, Field(ge=0, description="host memory for one call's RDMs or PCA; 0: half the RAM")
    ] = ByteSize(0)
    spill_dir: Annotated[
        Path | None,
        Field(description="folder on disk for features that do not fit; default: system's"),
    ] = None
    fast_max_pool: Annotated[
        bool,
        Field(description="compute max pools on a CPU row by row; off: PyTorch's own, same values"),
    ] = True
    skip_initialisation: Annotated[
        bool,
        Field(
            description="build networks without the initial values that a file replaces; off: "
            "initialise them, then copy the file's, same bits"
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
            "off: with the threads of BLAS, last bits may differ"
        ),
    ] = True
    fast_frames: Annotated[
        bool,
        Field(description="write frames of features without copies; off: protobuf writes them"),
    ] = True
    drain_seconds: Annotated[
        float, Field(ge=0, description="time that running calls get to finish after SIGTERM")
    ] = 30.0
    log_format: Annotated[
        Literal["json", "console"],
        Field(description="json: one object a line; console: for people"),
    ] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"


def read_settings() -> Settings:
    """Return what the command line and the environment say; exit with a sentence per mistake."""
    try:
        return CliApp.run(Settings)
    except ValidationError as error:
        mistakes = [
            f"--{str(one['loc'][0]).replace('_', '-')} can't be {one['input']!r}: {one['msg']}"
            for one in error.errors()
        ]
        sys.exit("\n".join(f"thingsvision-server: {mistake}" for mistake in mistakes))
