"""How many images fit into a forward pass: by device, by what an image takes, and as before."""

from __future__ import annotations

import pytest

from support.serving import open_sources
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import taps
from thingsvision_server.engine.passes.limits import (
    BatchLimits,
    ImageCost,
    default_limits,
    predict_cost,
    predict_inner_bytes,
)
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Random

GIB = 2**30
CPU = default_limits(16 * GIB, 16 * GIB, on_gpu=False)
MODELS = {
    "alexnet": 224,
    "vgg16": 224,
    "resnet50": 224,
    "vit_b_16": 224,
    "densenet121": 224,
    "efficientnet_b7": 600,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


def structure_of(sources: Sources, name: str, side: int | None = None) -> Structure:
    key = ModelKey("torchvision", name, Random(0))
    return sources["torchvision"].structure(key, (3, side, side) if side else None)


def cost_of(structure: Structure, side: int, *modules: str) -> ImageCost:
    found = taps(structure, modules)
    return predict_cost((3, side, side), found, predict_inner_bytes(structure, found))


@pytest.mark.parametrize("name", MODELS)
def test_no_batch_on_a_cpu_is_smaller_than_by_images_and_rows_alone(
    sources: Sources, name: str
) -> None:
    structure, side = structure_of(sources, name), MODELS[name]
    key = ModelKey("torchvision", name, Random(0))
    assert sources["torchvision"].transforms(key)[IMAGE].spec.shape == (3, side, side)
    for module in structure.modules:
        if module.calls and not module.reason:
            cost = cost_of(structure, side, module.name)
            by_rows = max(1, min(64, 32 * 2**20 // cost.row_bytes))
            assert CPU.max_images(cost) == by_rows, module.name


def test_batches_of_huge_inputs_are_small_although_their_rows_are(sources: Sources) -> None:
    structure = structure_of(sources, "alexnet", 4096)
    cost = cost_of(structure, 4096, "classifier.6")
    assert cost.row_bytes == 4000
    assert cost.input_bytes == 3 * 4096 * 4096 * 4
    assert cost.inner_bytes == 2 * 64 * 1023 * 1023 * 4
    assert CPU.max_images(cost) == 3
    assert "--max-input-bytes" in CPU.name_lowest(cost)
    assert f"{cost.input_bytes:,} bytes of input" in CPU.name_lowest(cost)


def test_batches_of_huge_inner_activations_are_small_although_inputs_are(
    sources: Sources,
) -> None:
    structure = structure_of(sources, "vgg16")
    cost = cost_of(structure, 224, "classifier.6")
    limits = BatchLimits(64, GIB, GIB, inner_bytes=10 * cost.inner_bytes)
    assert limits.max_images(cost) == 10
    assert "--max-inner-bytes" in limits.name_lowest(cost)
    assert "bytes of inner activations" in limits.name_lowest(cost)
    assert BatchLimits(64, GIB, 1, 1).max_images(cost) == 1


def test_only_modules_that_run_until_the_last_tap_count(sources: Sources) -> None:
    structure = structure_of(sources, "vgg16")
    row = {module.name: cost_of(structure, 224, module.name) for module in structure.modules[2:]}
    assert row["features.0"].inner_bytes == 2 * row["features.0"].row_bytes
    by_name = structure_of(sources, "resnet50")
    # A block's own modules stand after it and run before its output is there.
    inner = max(
        cost_of(by_name, 224, one.name).row_bytes
        for one in by_name.modules
        if one.name.startswith(("conv1", "bn1", "relu", "maxpool", "layer1.0"))
    )
    assert cost_of(by_name, 224, "layer1.0").inner_bytes == 2 * inner
    both = cost_of(by_name, 224, "layer1.0", "fc")
    assert both.inner_bytes == cost_of(by_name, 224, "fc").inner_bytes


def test_a_gpu_takes_larger_batches_within_its_memory(sources: Sources) -> None:
    large = default_limits(139 * GIB, 128 * GIB, on_gpu=True)
    small = default_limits(8 * GIB, 64 * GIB, on_gpu=True)
    cost = cost_of(structure_of(sources, "vgg16"), 224, "features.0")
    assert (large.images, large.activation_bytes) == (256, GIB)
    assert large.max_images(cost) == GIB // cost.row_bytes
    late = cost_of(structure_of(sources, "vgg16"), 224, "classifier.6")
    assert large.max_images(late) == 256
    assert small.max_images(late) * late.inner_bytes <= 2 * GIB
    assert small.activation_bytes == GIB // 2
