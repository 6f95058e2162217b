"""The lines of `thingsvision-client status`: of a cluster, each says of which server it is."""

from __future__ import annotations

from thingsvision_client.commands.tables import residency_lines
from thingsvision_client.values.records import Device, Residency, ServerInfo

_MIB = 2**20


def device(server: str, templates: int) -> Device:
    return Device("cpu", 0, 0, 0, hardware="a CPU", server=server, template_bytes=templates * _MIB)


def server(address: str) -> ServerInfo:
    return ServerInfo(address, "serving", 0.0, "0.1.0", "node", "a CPU", None, ())


def test_the_templates_of_each_server_of_a_cluster_are_told_as_its_own() -> None:
    residency = Residency(
        (),
        (device("a:50051", 3), device("b:50051", 4)),
        servers=(server("a:50051"), server("b:50051")),
    )
    lines = list(residency_lines("a:50051", residency))
    place = lines.index("a:50051 cpu is a CPU.")
    assert lines[place : place + 4] == [
        "a:50051 cpu is a CPU.",
        "Templates of child processes of a:50051 take 3 MiB of the host's memory.",
        "b:50051 cpu is a CPU.",
        "Templates of child processes of b:50051 take 4 MiB of the host's memory.",
    ]


def test_a_single_server_needs_no_name_in_its_lines() -> None:
    lines = list(residency_lines("a:50051", Residency((), (device("", 3),))))
    assert "cpu is a CPU." in lines
    assert "Templates of child processes take 3 MiB of the host's memory." in lines
