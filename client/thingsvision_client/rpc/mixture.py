"""Compares the servers that compute one extraction, and finds those that compute the same bits."""

from __future__ import annotations

from collections.abc import Iterable

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import MixedServersError, PermissionDeniedError, UnsupportedError
from ..values.cores import Cores
from ..values.model import Model
from ..values.records import Residency, ServerInfo, to_record
from ..values.servers import ServerFacts
from .connection import Connection

_ADVICE = (
    "Their last bits could differ, so the extraction stops. Make the call again when servers like "
    "the first are up, or let them mix with allow_mixed=True (--allow-mixed)."
)
_OTHER_WEIGHTS = "The weights are others, which never mix: give all servers the same files."


def facts_of(header: pb.ExtractReplyHeader) -> ServerFacts:
    """Return what a reply says of the server that computes it."""
    told, server = header.provenance, header.server
    passes = Cores(told.cores.count, 0, told.cores.tail_count)
    return ServerFacts(
        address=server.address,
        host_name=server.host_name,
        version=told.server_version,
        device=told.device.partition(":")[0],
        hardware=told.hardware,
        cores=to_record(server.cores) if server.HasField("cores") else None,
        pass_cores=passes if told.HasField("cores") else None,
        framework=told.framework,
        libraries=tuple(server.libraries),
        model_sha256=told.model_sha256,
        batch_size=header.batch_size,
        model=str(Model.from_spec(told.model)),
    )


def compare_servers(first: ServerFacts, other: ServerFacts, *, may_mix: bool) -> str:
    """Return how another server than the first differs, empty if it does not.

    Raises MixedServersError unless they `may_mix`; other weights never may. Other models are not
    compared: a caller who asks for another says so better.
    """
    is_other = first.model and other.model and first.model != other.model
    faults = [] if is_other else first.differences(other)
    if not faults:
        return ""
    text = (
        f"The first rows are computed by {first.name}, and {other.name} computes otherwise: "
        f"{'; '.join(faults)}."
    )
    if first.model_sha256 and other.model_sha256 and first.model_sha256 != other.model_sha256:
        raise MixedServersError(f"{text} {_OTHER_WEIGHTS}")
    if not may_mix:
        raise MixedServersError(f"{text} {_ADVICE}")
    return f"{text} The values are the same, up to rounding in their last bits."


def compare_headers(
    first: pb.ExtractReplyHeader, other: pb.ExtractReplyHeader, names: tuple[str, str]
) -> None:
    """Raise MixedServersError if two servers of these names compute other things than bits.

    Such as with another preprocessing, which versions may have.
    """
    pair = [_comparable(header) for header in (first, other)]
    if pair[0] == pair[1]:
        return
    fields = [
        field.name
        for field in pb.Provenance.DESCRIPTOR.fields
        if _value(pair[0].provenance, field) != _value(pair[1].provenance, field)
    ]
    raise MixedServersError(
        f"The first rows are computed by {names[0]}, and {names[1]} computes something else: "
        f"{' and '.join(fields or ['columns'])} differ. Such servers never mix: make the call "
        "again when all of them have the same version."
    )


def _comparable(header: pb.ExtractReplyHeader) -> pb.ExtractReplyHeader:
    """Return a header without what `ServerFacts` have."""
    kept = pb.ExtractReplyHeader()
    kept.CopyFrom(header)
    for name in ("server", "batch_size", "batch_limit"):
        kept.ClearField(name)
    for name in ("device", "hardware", "framework", "server_version", "cores", "model_sha256"):
        kept.provenance.ClearField(name)
    return kept


def _value(message: pb.Provenance, field: object) -> object:
    found: object = getattr(message, field.name)  # type: ignore[attr-defined]
    return found


def residency_of(connection: Connection) -> Residency:
    """Return what all servers of a cluster tell. Raises ThingsvisionError."""
    method = connection.stubs.models.GetResidency
    residency: Residency = to_record(connection.caller.ask(method, pb.GetResidencyRequest()))
    return residency


def serving_servers(connection: Connection) -> list[ServerFacts]:
    """Return the servers of a cluster that take calls; none if they are not announced.

    None either for a person who may not ask.
    """
    try:
        found = residency_of(connection).servers
    except (PermissionDeniedError, UnsupportedError):
        return []
    return [_announced(one) for one in found if one.address and one.state == "serving"]


def alike(first: ServerFacts, servers: Iterable[ServerFacts]) -> list[ServerFacts]:
    """Return the servers that compute the same bits as the first, as far as they announce it."""
    return [one for one in servers if not first.differences(one)]


def _announced(server: ServerInfo) -> ServerFacts:
    return ServerFacts(
        address=server.address,
        host_name=server.host_name,
        version=server.version,
        hardware=server.hardware,
        cores=server.cores,
        libraries=server.libraries,
    )
