"""Options: in `--help`, in the environment, and refused with a sentence if they are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from thingsvision_server.settings import Settings

OTHER_THAN_DEFAULT = {
    "host": "0.0.0.0",
    "port": 4711,
    "metrics_port": 4712,
    "device": "cuda:1",
    "device_memory": 40 * 2**30,
    "host_memory": 6000,
    "weights_dir": "/elsewhere",
    "allow_download": False,
    "tensorflow_python": "/elsewhere/bin/python",
    "max_batch": 7,
    "max_batch_bytes": 8_000_000,
    "cpu_lanes": 3,
    "decode_threads": 9,
    "max_image_bytes": 1000,
    "max_image_pixels": 2000,
    "image_store": 0,
    "image_root": "/pictures",
    "max_upload_bytes": 3000,
    "upload_quota": 4000,
    "pca_quota": 4500,
    "rdm_features_memory": 0,
    "rdm_memory": 5000,
    "spill_dir": "/spill",
    "fast_max_pool": False,
    "skip_initialisation": False,
    "keep_freed_memory": False,
    "rdm_thread_pool": False,
    "fast_frames": False,
    "throttle_imports": False,
    "parent": 12,
    "parent_log": "/logs/server",
    "drain_seconds": 0.5,
    "log_format": "console",
    "log_level": "debug",
}
SPELLED = {"device_memory": "40GiB", "max_batch_bytes": "8MB"}
READ = "from thingsvision_server.settings import *; print(read_settings().model_dump_json())"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("THINGSVISION_")}
    return subprocess.run(
        [sys.executable, *command],
        env=clean | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def server(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "thingsvision_server", *arguments, **environment)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def spelled(name: str) -> str:
    return SPELLED.get(name, str(OTHER_THAN_DEFAULT[name]))


def test_the_list_above_is_complete() -> None:
    assert set(OTHER_THAN_DEFAULT) == set(Settings.model_fields)


def test_help_names_every_option_with_its_meaning() -> None:
    done = server("--help")
    assert done.returncode == 0
    printed = " ".join(done.stdout.split())
    for name, field in Settings.model_fields.items():
        assert flag(name) in printed
        assert field.description
        assert field.description in printed
    assert "THINGSVISION_" in printed


def test_the_version_is_printed() -> None:
    done = server("--version")
    assert done.stdout == f"thingsvision-server {version('thingsvision-service')}\n"


def test_every_option_is_read_from_the_environment() -> None:
    names = {f"THINGSVISION_{name.upper()}": spelled(name) for name in OTHER_THAN_DEFAULT}
    found = json.loads(run("-c", READ, **names).stdout)
    assert found == OTHER_THAN_DEFAULT


def test_the_command_line_wins() -> None:
    flags = []
    for name, value in OTHER_THAN_DEFAULT.items():
        flags += (
            [f"--no-{name}".replace("_", "-")] if value is False else [flag(name), spelled(name)]
        )
    environment = {"THINGSVISION_PORT": "1", "THINGSVISION_ALLOW_DOWNLOAD": "true"}
    found = json.loads(run("-c", READ, *flags, **environment).stdout)
    assert found == OTHER_THAN_DEFAULT


BAD: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "port": (["--port", "99999"], {}, ["--port", "'99999'", "65535"]),
    "port in words": (["--port", "http"], {}, ["--port", "'http'", "integer"]),
    "bytes": (["--device-memory", "lots"], {}, ["--device-memory", "'lots'"]),
    "negative bytes": (["--host-memory", "-1"], {}, ["--host-memory", "'-1'"]),
    "batch": ([], {"THINGSVISION_MAX_BATCH": "0"}, ["--max-batch", "'0'", "1"]),
    "log": (["--log-level", "loud"], {}, ["--log-level", "loud", "debug", "error"]),
    "option": (["--prot", "1"], {}, ["--prot"]),
    "device": (["--device", "nonsense", "--port", "0"], {}, ["'nonsense'", "cpu"]),
    "no such GPU": (["--device", "cuda:99", "--port", "0"], {}, ["'cuda:99'", "cpu"]),
    "two at once": (
        ["--port", "-1", "--drain-seconds", "soon"],
        {},
        ["--port", "'-1'", "--drain-seconds", "'soon'"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_ends_the_server_with_a_sentence(case: str, tmp_path: Path) -> None:
    arguments, environment, words = BAD[case]
    weights: dict[str, Any] = {"THINGSVISION_WEIGHTS_DIR": str(tmp_path)}
    quiet = {"THINGSVISION_METRICS_PORT": "0"}
    done = server(*arguments, **weights, **quiet, **environment)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
