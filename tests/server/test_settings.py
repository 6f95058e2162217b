"""Settings of the environment and of a file: what counts, and what is refused by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.checkout import CHECKOUT
from thingsvision_server.settings import environment
from thingsvision_server.settings.options import Settings
from thingsvision_server.settings.reading import parse_settings
from thingsvision_server.wiring import CHANGEABLE

EXAMPLE = CHECKOUT / "deploy" / "box" / "thingsvision-server.toml"
OPTIONS = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("THINGSVISION_"):
            monkeypatch.delenv(name)


def mistakes(*arguments: str) -> list[str]:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_settings(list(arguments))
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("variable", "meant"),
    {
        "THINGSVISION_WEIGHT_DIR": "THINGSVISION_WEIGHTS_DIR",
        "THINGSVISION_WEIGHTS": "THINGSVISION_WEIGHTS_DIR",
        "THINGSVISION_DEVICE_MEM": "THINGSVISION_DEVICE_MEMORY",
        "THINGSVISION_DEVICEMEMORY": "THINGSVISION_DEVICE_MEMORY",
        "thingsvision_prot": "THINGSVISION_PORT",
        "THINGSVISION_GRPC_PORT": "THINGSVISION_PORT",
        "THINGSVISION_NO_ALLOW_DOWNLOAD": "THINGSVISION_ALLOW_DOWNLOAD=false",
        "THINGSVISION_SERVERS": "THINGSVISION_SERVER (the client's)",
        "THINGVISION_PORT": "THINGSVISION_PORT",
        "THINGSVISON_IMAGE_ROOT": "THINGSVISION_IMAGE_ROOT",
        "THINGS_VISION_DEVICE": "THINGSVISION_DEVICE",
    }.items(),
)
def test_a_variable_that_is_nearly_an_option_is_refused(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    (sentence,) = mistakes()
    assert variable.upper() in sentence
    assert sentence.endswith(f"Did you mean {meant}?")


def test_every_mistake_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSVISION_WEIGHT_DIR", "/x")
    found = mistakes("--prot=1", "--devcie", "cpu")
    assert len(found) == 3
    assert "--prot is not an option. Did you mean --port?" in found
    assert "--devcie is not an option. Did you mean --device?" in found


def test_other_variables_are_known_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "THINGSVISION_SERVER": "gpu:50051",
        "THINGSVISION_TOKEN": "secret",
        "THINGSVISION_NICE_DAY": "1",
        "THINGSVISION_PORT": "tcp://10.0.0.1:50051",
        "THINGSVISION_SERVICE_HOST": "10.0.0.1",
        "THINGSVISION_SERVICE_PORT": "50051",
        "THINGSVISION_SERVICE_PORT_GRPC": "50051",
        "THINGSVISION_PORT_50051_TCP": "tcp://10.0.0.1:50051",
        "THINGSVISION_PORT_50051_TCP_ADDR": "10.0.0.1",
        # Of a service `thingsvision-metrics`.
        "THINGSVISION_METRICS_PORT": "tcp://10.0.0.2:9090",
        "THINGSVISION_METRICS_SERVICE_PORT": "9090",
        # Of a service `thingsvision-server`.
        "THINGSVISION_SERVER_SERVICE_HOST": "10.0.0.3",
        "THINGSVISION_SERVER_PORT": "tcp://10.0.0.3:50051",
        "THINGSVISION_SERVER_PORT_50051_TCP_PROTO": "tcp",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = parse_settings([])
    assert (settings.port, settings.metrics_port) == (50051, 9090)
    assert environment.find_unknown(os.environ, OPTIONS) == ["THINGSVISION_NICE_DAY"]
    assert len(environment.find_service_links(os.environ)) == 11


def test_every_variable_of_the_client_and_of_tests_is_known() -> None:
    known = {*OPTIONS, *environment.OTHERS, ""}
    for folder, suffix in [("client", "py"), ("client", "m"), ("bench", "py"), ("tests", "py")]:
        for file in (CHECKOUT / folder).rglob(f"*.{suffix}"):
            if file.name in ("test_settings.py", "test_options.py", "test_start.py"):
                continue
            for name in re.findall(r"THINGSVISION_([A-Z_]*)", file.read_text("utf-8")):
                assert name in known or name.startswith("REQUIRE_"), f"{file}: {name}"


def test_an_empty_variable_is_not_set_and_an_empty_path_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THINGSVISION_IMAGE_ROOT", "")
    assert parse_settings([]).image_root is None
    for option in ("--image-root", "--weights-dir", "--spill-dir"):
        (sentence,) = mistakes(f"{option}=")
        assert option in sentence
        assert "must name a folder" in sentence


def test_flags_count_more_than_variables_and_variables_more_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        'port = 1\nmetrics-port = 2\nmax_batch = 3\ndevice_memory = "40GiB"\nfast_frames = false\n'
    )
    monkeypatch.setenv("THINGSVISION_PORT", "11")
    monkeypatch.setenv("THINGSVISION_METRICS_PORT", "12")
    found = parse_settings([f"--config={file}", "--port=21"])
    assert (found.port, found.metrics_port, found.max_batch) == (21, 12, 3)
    assert (found.device_memory, found.fast_frames) == (40 * 2**30, False)
    monkeypatch.setenv("THINGSVISION_CONFIG", str(file))
    assert parse_settings([]).max_batch == 3


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "host_memry = 1": ["key host_memry", "Did you mean host_memory?"],
        "image-rot = 'x'": ["image-rot", "Did you mean image_root?"],
        "port = true": ["port", "a number or a string", "True"],
        "fast_frames = 'no'": ["fast_frames", "true or false", "'no'"],
        "no_fast_frames = true": ["Did you mean fast_frames = false?"],
        "zzz = 1": ["zzz", "--help"],
        "config = 'x'": ["config", "only the command line"],
        "[server]\nport = 1": ["table server"],
        "port = 1\nport = 2": ["is not a TOML file", "Cannot overwrite"],
        "max-batch = 1\nmax_batch = 2": ["max_batch twice"],
        "port = 99999": ["--port (in the file of --config)", "65535"],
        "\x00": ["is not a TOML file"],
    }.items(),
)
def test_a_mistake_in_the_file_is_named(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    (sentence,) = mistakes("--config", str(file))
    for word in words:
        assert word in sentence


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for place in (tmp_path / "none.toml", tmp_path):
        (sentence,) = mistakes("--config", str(place))
        assert str(place) in sentence


def test_what_deploys_the_server_names_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (CHECKOUT / "deploy" / "box" / "thingsvision-server.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    _, flag, file = command.split()
    assert (flag, Path(file).name) == ("--config", EXAMPLE.name)
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) > parse_settings([f"--config={EXAMPLE}"]).drain_seconds
    image = (CHECKOUT / "Dockerfile").read_text()
    named = re.findall(r"(THINGSVISION_\w+)=(\S+)", image)
    assert named
    for name, value in named:
        monkeypatch.setenv(name, value)
    assert parse_settings([]).host == "0.0.0.0"
    assert not environment.find_unknown(os.environ, OPTIONS)


def test_the_page_says_what_may_change_while_the_server_runs() -> None:
    page = (CHECKOUT / "docs" / "deploy.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith("| SIGHUP"))
    assert set(re.findall(r"`([a-z_]+)`", line)) == CHANGEABLE


def test_the_example_can_be_read_with_every_line(tmp_path: Path) -> None:
    assert parse_settings([f"--config={EXAMPLE}"]).drain_seconds == 30
    text, count = re.subn(r"^# (?=\w+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert count >= 5
    (tmp_path / "all.toml").write_text(text)
    found = parse_settings([f"--config={tmp_path / 'all.toml'}"])
    assert (found.cpu_lanes, found.host_memory) == (4, 32 * 2**30)
