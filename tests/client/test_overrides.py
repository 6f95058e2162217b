from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from thingsvision_client import PreprocessingOverrides
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.utils.transforms import ServerTransforms
from thingsvision_client.values.preprocessing import Preprocessing
from thingsvision_client.values.records import to_record
from thingsvision_proto.v1 import thingsvision_pb2 as pb

OWN = pb.Preprocessing(
    resize_pixels=[256],
    interpolation="bilinear",
    antialias=True,
    crop_pixels=[224, 224],
    value_range="0..1",
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
    description="Resize(256)\n  CenterCrop(224)",
    channel_order="RGB",
)


def test_sizes_become_fields_of_the_message() -> None:
    message = PreprocessingOverrides(resize=(8, 9), crop=np.int64(7)).to_message()
    assert message == pb.PreprocessingOverrides(resize_pixels=[8, 9], crop_pixels=[7])
    message = PreprocessingOverrides(crop=False, mean=(0.1, 0.2, 0.3), std=np.ones(3)).to_message()
    assert message == pb.PreprocessingOverrides(no_crop=True, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])


def test_only_what_is_changed_is_shown() -> None:
    assert str(PreprocessingOverrides(resize=128, crop=False)) == "resize=128, crop=False"
    assert PreprocessingOverrides().is_empty
    assert not PreprocessingOverrides(crop=False).is_empty


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"resize": 0}, "`resize` must be a number of pixels from 1, or .height, width., got 0"),
        ({"resize": -3}, "got -3"),
        ({"resize": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"resize": 12.5}, "got 12.5"),
        ({"resize": True}, "got True"),
        ({"resize": "256"}, "got '256'"),
        ({"crop": 2**40}, "`crop` must be a number"),
        ({"crop": True}, "`crop` must be a size, False for no crop"),
        ({"mean": 0.5}, "`mean` must be a list or None, got 0.5"),
        ({"std": (1, 2)}, "`std` must be 3 numbers, one per channel"),
        ({"std": "abc"}, "got 'abc'"),
    ],
)
def test_invalid_values_are_refused_at_once(wrong: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        PreprocessingOverrides(**wrong)


def test_a_models_own_way_as_data_for_a_paper() -> None:
    record = to_record(OWN)
    told = record.to_dict()
    assert list(told) == [field.name for field in fields(Preprocessing)]
    assert told["crop_pixels"] == [224, 224]
    assert told["description"] == OWN.description
    assert told["mean"] == list(OWN.mean)


def test_transforms_show_what_they_stand_for() -> None:
    own = to_record(OWN)
    assert repr(ServerTransforms()) == "ServerTransforms(the model's own)"
    assert repr(ServerTransforms(own=own)) == (
        "ServerTransforms(the model's own, Resize(256) CenterCrop(224))"
    )
    changed = ServerTransforms(PreprocessingOverrides(crop=96), own)
    assert repr(changed).endswith("CenterCrop(224), but with crop=96)")
