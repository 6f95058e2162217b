"""How commands take the name of a model, and how they list: for people, pipes and programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from support.serving import TestServer
from thingsvision_client import Client, errors
from thingsvision_client.cli import app
from thingsvision_client.rpc import address

SMALL = "squeezenet1_1"


@pytest.fixture(autouse=True)
def no_server_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--server` before a command sets must not reach other tests."""
    monkeypatch.setattr(address, "_default_address", "")
    monkeypatch.delenv("THINGSVISION_SERVER", raising=False)


def run(*arguments: str | Path, columns: int = 80) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": str(columns)})


def printed(server: TestServer, *arguments: str | Path) -> str:
    done = run(*arguments, "--server", server.address)
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    return done.stdout


def refused(server: TestServer, *arguments: str) -> str:
    failed = run(*arguments, "--server", server.address)
    assert isinstance(failed.exception, errors.ThingsvisionError), failed.output
    return str(failed.exception)


def modules(server: TestServer, *arguments: str) -> str:
    return printed(server, "show-model", *arguments)


def test_the_server_may_be_named_before_the_command_and_another_after_it(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", "localhost:1")
    assert run("--server", f"http://{server.address}/", "status").exit_code == 0
    done = run("--server", "localhost:1", "status", "--server", server.address)
    assert done.exit_code == 0, done.exception
    assert server.address in done.stdout


@pytest.mark.parametrize(
    "named",
    [
        ["--source", "torchvision", "--model-name", SMALL, "--no-pretrained"],
        ["--source", "torchvision", "--model-name", f"torchvision/{SMALL}", "--no-pretrained"],
        ["--model-name", f"torchvision/{SMALL}", "--no-pretrained"],
        ["--model-name", f"torchvision/{SMALL}@random:0"],
        ["--model-name", f"{SMALL}@random:0"],
        ["--model-name", SMALL, "--no-pretrained"],
    ],
)
def test_a_model_may_be_named_by_source_and_name_or_by_a_unique_name(
    server: TestServer, photos: list[Path], tmp_path: Path, named: list[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for photo in photos[:3]:
        (tmp_path / "photos" / photo.name).symlink_to(photo)
    places = ["--image-root", tmp_path / "photos", "--out-path", tmp_path / "out"]
    printed(server, "compute-rdm", *named, *places, "--module-name", "features.2")
    assert (tmp_path / "out" / "rdm.npy").exists()


def test_families_and_slashes_in_names_are_found_without_a_source(server: TestServer) -> None:
    clip = modules(server, "--model-name", "custom/clip/RN50")
    assert modules(server, "--model-name", "clip/RN50") == clip
    variant = ["--model-parameters", '{"variant": "RN50"}']
    assert modules(server, "--model-name", "clip", *variant) == clip
    assert modules(server, "--model-name", "custom/clip", *variant) == clip
    assert modules(server, "--model-name", "cornet_s") == modules(
        server, "--source", "custom", "--model-name", "cornet-s"
    )


def test_a_name_of_several_sources_is_the_librarys_default_or_refused(server: TestServer) -> None:
    torchvisions = modules(server, "--model-name", "torchvision/resnet18", "--no-pretrained")
    assert modules(server, "--model-name", "resnet18", "--no-pretrained") == torchvisions
    fault = refused(server, "load", "resnet18@random:0")
    assert "Several sources have a model 'resnet18': name it timm/resnet18, torch" in fault


def test_names_that_nobody_has_get_suggestions_whatever_the_case(server: TestServer) -> None:
    for name in ("ALEXNETT", "alexnett", "AlexNett"):
        assert "Did you mean torchvision/alexnet" in refused(server, "load", name)
        assert "Did you mean torchvision/alexnet" in refused(
            server, "show-model", "--model-name", name
        )
    assert "'alexnet'" in refused(server, "show-model", "--model-name", "torchvision/AlexNett")
    assert "torchvision" in refused(server, "models", "--source", "TorchVision")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--model-name", f"{SMALL}@random:x"], "@random:SEED must have a whole number"),
        (["--model-name", f"{SMALL}@A", "--model-path", "a.pth"], "--model-path has the weights"),
        (
            ["--model-name", f"{SMALL}@A", "--model-parameters", '{"weights": "B"}'],
            "--model-name says @A, and --model-parameters 'B'",
        ),
        (
            ["--model-name", f"{SMALL}@random:1", "--model-parameters", '{"seed": 2}'],
            "--model-name says @random:1, and --model-parameters the seed 2",
        ),
        (["--model-name", ""], "A model must be named"),
    ],
)
def test_contradictions_about_the_model_are_refused(
    server: TestServer, arguments: list[str], fault: str
) -> None:
    assert fault in refused(server, "show-model", *arguments)


@pytest.mark.parametrize(
    ("asked", "has", "has_not"),
    [
        (["alex"], "torchvision/alexnet", "torchvision/vgg16"),
        (["ALEX"], "torchvision/alexnet", "torchvision/vgg16"),
        (["torchvision/alex"], "torchvision/alexnet", "custom/"),
        (["alex", "--source", "torchvision"], "torchvision/alexnet", "custom/"),
        (["ResNet1*", "--source", "torchvision"], "torchvision/resnet18", "wide_resnet"),
        (["resnet[!1]*", "--source", "torchvision"], "torchvision/resnet50", "resnet18"),
        (["clip/rn50"], "custom/clip/RN50", "ViT"),
        (["resnet50.a1_in1k"], "timm/resnet50", "torchvision"),
    ],
)
def test_models_are_found_by_a_part_of_their_name(
    server: TestServer, asked: list[str], has: str, has_not: str
) -> None:
    lines = printed(server, "models", *asked)
    assert has in lines
    assert has_not not in lines


def test_no_model_that_matches_is_an_error_with_suggestions(server: TestServer) -> None:
    fault = refused(server, "models", "timm/alexnet")
    assert fault.startswith("The source timm has no model that matches 'alexnet'")
    assert "torchvision/alexnet" in fault


def test_every_listing_is_whole_in_a_pipe_and_has_json(
    server: TestServer, client: Client, tmp_path: Path
) -> None:
    import torch

    weights = tmp_path / f"{'a_long_name_' * 12}.pth"
    torch.save(torch.nn.Linear(8, 8).state_dict(), weights)
    sha256 = client.upload_weights(weights)
    name = "pca of many images, " * 8
    images = [(str(n), torch.rand(3, 224, 224).numpy()) for n in range(4)]
    pca = client.fit_pca(
        f"torchvision/{SMALL}@random:0", images, "features.2", components=1, name=name
    )
    uploads, pcas, status = (
        run(one, "--server", server.address, columns=40) for one in ("uploads", "pcas", "status")
    )
    assert sha256 in uploads.stdout
    assert weights.name in uploads.stdout
    assert pca.sha256 in pcas.stdout
    assert name in pcas.stdout
    assert f"torchvision/{SMALL}@random:0" in status.stdout

    def listed(*command: str) -> list[dict[str, object]]:
        found = json.loads(printed(server, *command, "--json"))
        return list(found)

    assert sha256 in [one["sha256"] for one in listed("uploads")]
    assert pca.sha256 in [one["sha256"] for one in listed("pcas")]
    model = ["--model-name", f"torchvision/{SMALL}"]
    infos = client.modules(f"torchvision/{SMALL}")
    assert [one["name"] for one in listed("show-model", *model)] == [one.name for one in infos]
    state = json.loads(printed(server, "status", "--json"))
    assert state["devices"][0]["name"] == "cpu"
    assert [one["name"] for one in listed("models", "torchvision/alex")] == ["alexnet"]
    client.delete_pca(pca.sha256)
    client.delete_upload(sha256)
    assert listed("uploads") == [] or sha256 not in str(listed("uploads"))


def test_no_option_is_cut_in_narrow_help() -> None:
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        page = run(name, "--help").stdout
        assert "\N{HORIZONTAL ELLIPSIS}" not in page
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--"):
                    assert option in page, f"{name} {option}"
