from dataclasses import fields

import pytest

from thingsvision_client.values.records import RECORDS, to_record
from thingsvision_proto.v1 import thingsvision_pb2 as pb


@pytest.mark.parametrize("message", RECORDS, ids=lambda message: message.__name__)
def test_a_record_has_the_fields_of_its_message(message: type) -> None:
    names = {field.name for field in fields(RECORDS[message])}
    if message is pb.Provenance:  # of several calls, which only the client knows
        names.remove("servers")
    assert names == {field.name for field in message.DESCRIPTOR.fields}


def test_nested_messages_become_records() -> None:
    weights = [pb.PretrainedWeights(tag="A", is_default=True, state=pb.WEIGHTS_STATE_PRESENT)]
    info = to_record(pb.ListModelsResponse(source="timm", name="vit", pretrained=weights))
    assert info.pretrained[0].state == "present"
    resident = pb.ResidentModel(model=pb.ModelSpec(source="timm", name="vit", random_seed=3))
    residency = to_record(pb.GetResidencyResponse(models=[resident]))
    assert str(residency.models[0].model) == "timm/vit@random:3"
    assert isinstance(residency.devices, tuple)
