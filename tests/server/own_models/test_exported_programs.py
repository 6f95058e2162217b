"""Programs of `torch.export`: run as they are, tapped by their modules' own names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.closeness import assert_close
from support.own_files import DECLARED, copied, hooked, inputs
from support.own_networks import SEEDS, SIZE, Pairs, network
from thingsvision_client import Client, PreprocessingOverrides
from thingsvision_client.errors import NotExtractableError


def test_a_program_has_its_own_modules_and_gives_what_the_network_gives(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["any"])
    model = client.upload_model(programs / "any.pt2", DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert list(modules) == [
        "",
        "stem",
        "stem.0",
        "stem.1",
        "act",
        "body",
        "body.0",
        "body.1",
        "head",
    ]
    assert (modules["stem.0"].type, modules["body"].type) == ("Conv2d", "Sequential")
    assert (modules["act"].call_count, modules["head"].output_shape) == (2, (5,))
    assert modules[""].parameter_count == sum(p.numel() for p in net.parameters())
    names = ["stem.0", "act", "body.0", "head", ""]
    result = client.extract(model, photos, names)
    for name, expected in hooked(net, inputs(photos), names).items():
        assert_close(result.features[name], expected)
    own = result.provenance
    assert str(own.model) == f"own/{model.name}@sha256:{model.name}"
    assert (own.preprocessing.mean, own.preprocessing.crop_pixels) == ((0.5, 0.4, 0.3), (SIZE,))


def test_a_pass_that_ends_early_does_not_shift_the_calls_of_the_next(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(copied(programs, "early"), DECLARED)
    whole = client.extract(model, photos, ["act@all", ""], batch_size=3).features
    for _ in range(3):
        first = client.extract(model, photos, ["act@t=0"], batch_size=3).features["act@t=0"]
        np.testing.assert_array_equal(first, whole["act@all"][:, 0])
    last = client.extract(model, photos, ["act"], batch_size=3).features["act"]
    np.testing.assert_array_equal(last, whole["act@all"][:, 1])


def test_a_program_of_one_image_runs_images_one_by_one(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["one"])
    model = client.upload_model(programs / "one.pt2", DECLARED)
    result = client.extract(model, photos, ["body.0", ""]).features
    for name, expected in hooked(net, inputs(photos), ["body.0", ""]).items():
        assert_close(result[name], expected)


def test_a_program_of_few_images_runs_them_in_parts(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["few"])
    model = client.upload_model(programs / "few.pt2", DECLARED)
    result = client.extract(model, [*photos, *photos][:7], ["head"], batch_size=7).features["head"]
    expected = hooked(net, inputs([*photos, *photos][:7]), ["head"])["head"]
    assert_close(result, expected)


def test_a_program_of_any_size_takes_the_sizes_of_a_request(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(programs / "sizes.pt2", DECLARED)
    changed = PreprocessingOverrides(crop=(24, 40))
    found = client.extract(model, photos, "stem", preprocessing=changed).features["stem"]
    assert found.shape == (len(photos), 8, 12, 20)
    assert client.extract(model, photos, "stem").features["stem"].shape[1:] == (8, 16, 16)


def test_what_modules_of_a_program_share_does_not_stand_for_their_outputs(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    model = client.upload_model(programs / "pairs.pt2", DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert modules["blocks.0"].output_shape == (3, SIZE * SIZE)
    found = client.extract(model, photos, ["blocks.0", "blocks.1", ""]).features
    batch = inputs(photos)
    net = Pairs()
    for name, expected in hooked(net, batch, ["blocks.0", "blocks.1", ""]).items():
        assert_close(found[name], expected)
    with pytest.raises(NotExtractableError, match=r"'pair'.*several outputs.*keep their order"):
        client.extract(model, photos, "pair")


def test_outputs_that_a_program_does_not_have_are_refused_and_no_others_stand_for_them(
    client: Client, programs: Path
) -> None:
    model = client.upload_model(programs / "second.pt2", DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert "nothing uses a part of what it computes" in modules["attention"].reason
    assert "only its second or a later output is used" in modules["memory"].reason
    assert "get_extractor_from_model, which records every output" in modules["memory"].reason
    assert "never called itself; request a module inside it" in modules["blocks"].reason
    assert not modules["blocks.0"].reason
    assert not modules["blocks.1"].reason
    with pytest.raises(NotExtractableError, match=r"'attention'.*first output"):
        client.extract(model, np.zeros((2, 3, SIZE, SIZE), np.float32), "attention")
