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
    "unix": "/elsewhere/run/tv.sock",
    "mtls_port": 4713,
    "client_ca": "/elsewhere/ca.pem",
    "unix_gateway": True,
    "insecure": True,
    "metrics_host": "::1",
    "audit_log": "/elsewhere/audit.jsonl",
    "tokens": "/elsewhere/tokens.json",
    "contact": "Ada",
    "tls_cert": "/elsewhere/server.pem",
    "tls_key": "/elsewhere/server.key",
    "metrics_people": 12,
    "metrics_port": 4712,
    "device": "cuda:1",
    "device_memory": 40 * 2**30,
    "host_memory": 6000,
    "weights_dir": "/elsewhere",
    "allow_download": False,
    "tensorflow_python": "/elsewhere/bin/python",
    "max_batch": 7,
    "max_batch_bytes": 8_000_000,
    "max_input_bytes": 5000,
    "max_inner_bytes": 6000,
    "cpu_lanes": 3,
    "gpu_lanes": 4,
    "staging_memory": 7000,
    "decode_memory": 8000,
    "decode_threads": 9,
    "max_image_bytes": 1000,
    "max_image_pixels": 2000,
    "image_store": 0,
    "image_root": ["/pictures"],
    "max_upload_bytes": 3000,
    "upload_quota": 4000,
    "warm_guests": False,
    "pca_quota": 4500,
    "rdm_features_memory": 0,
    "rdm_memory": 5000,
    "spill_dir": "/spill",
    "spill_quota": 6500,
    "fast_max_pool": False,
    "untried_options": True,
    "skip_initialisation": False,
    "keep_freed_memory": False,
    "rdm_thread_pool": False,
    "fast_frames": False,
    "throttle_imports": False,
    "parent": 12,
    "parent_folder": "/run/of/parent",
    "drain_seconds": 0.5,
    "stall_seconds": 2.5,
    "lease_seconds": 3.5,
    "person_calls": 17,
    "person_device_seconds": 20.5,
    "person_images": 18,
    "person_memory": 19_000,
    "person_upload_quota": 19_100,
    "person_pca_quota": 19_200,
    "person_image_store": 19_300,
    "wait_seconds": 4.5,
    "announce_dir": "/announced",
    "announce_address": "10.1.2.3:4714",
    "lame_duck_seconds": 1.5,
    "node_share": 0.125,
    "idle_seconds": 5.5,
    "log_format": "console",
    "log_level": "debug",
}
SPELLED = {
    "device_memory": "40GiB",
    "max_batch_bytes": "8MB",
    "image_root": "/pictures",
    "node_share": "1/8",
}
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
    assert set(OTHER_THAN_DEFAULT) | {"config"} == set(Settings.model_fields)


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
    assert found.pop("config") is None
    assert found == OTHER_THAN_DEFAULT


def test_the_command_line_wins() -> None:
    flags = []
    for name, value in OTHER_THAN_DEFAULT.items():
        if isinstance(value, bool):
            flags.append(flag(name if value else f"no_{name}"))
        else:
            flags += [flag(name), spelled(name)]
    environment = {"THINGSVISION_PORT": "1", "THINGSVISION_ALLOW_DOWNLOAD": "true"}
    found = json.loads(run("-c", READ, *flags, **environment).stdout)
    assert found.pop("config") is None
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
