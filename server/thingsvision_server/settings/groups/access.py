"""The options of where the server listens, whom it lets in, and what it shows of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from ..written_values import parse_metrics_port


class AccessOptions(BaseModel):
    """Where the server listens, whom it lets in, and what it shows of itself."""

    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 for all")] = "127.0.0.1"
    port: Annotated[
        int,
        Field(
            ge=0,
            le=65535,
            description="gRPC port; 0 for a free port; with --unix or --mtls-port there is none "
            "unless it is given",
        ),
    ] = 50051
    unix: Annotated[
        Path | None,
        Field(
            description="socket to listen on, in a folder of mode 0700 for one person, or 0750 "
            "and --tokens for a group; default: none"
        ),
    ] = None
    tokens: Annotated[
        Path | None,
        Field(
            description="file of the tokens that calls must have, which thingsvision-server token "
            "new writes; read again when it changes; default: anybody who reaches the server may "
            "call it"
        ),
    ] = None
    contact: Annotated[
        str, Field(description="who gives tokens and scopes, as refusals of calls say it")
    ] = "the operator of this server"
    tls_cert: Annotated[
        Path | None,
        Field(
            description="PEM file of the server's certificate and of those between it and its CA; "
            "read again when it changes"
        ),
    ] = None
    tls_key: Annotated[
        Path | None, Field(description="PEM file of the certificate's private key")
    ] = None
    mtls_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65535,
            description="gRPC port where callers must show a certificate of --client-ca; the "
            "tokens file names their subjects; default: none",
        ),
    ] = None
    client_ca: Annotated[
        Path | None,
        Field(description="PEM file of the authorities whose client certificates are taken"),
    ] = None
    unix_gateway: Annotated[
        bool,
        Field(
            description="the socket of --unix is a gateway's alone: what its calls say in "
            "x-forwarded-for and x-forwarded-client-cert is believed"
        ),
    ] = False
    insecure: Annotated[
        bool,
        Field(
            description="listen where other machines or users reach the server without asking who "
            "they are: they may do all that it can"
        ),
    ] = False
    audit_log: Annotated[
        Path | None,
        Field(
            description="file of JSON lines that says who loaded, unloaded, pinned, uploaded, "
            "deleted and was refused; default: none"
        ),
    ] = None
    metrics_host: Annotated[
        str,
        Field(
            description="address of /metrics; on another than this machine's own it asks for a "
            "token with the scope read if there are --tokens, and encrypts if there is a --tls-cert"
        ),
    ] = "127.0.0.1"
    metrics_people: Annotated[
        int,
        Field(
            ge=0,
            description="people whose use /metrics shows by name, at most; all later ones are "
            "`other`; 0: /metrics has no names",
        ),
    ] = 0
    metrics_port: Annotated[
        int | Literal["auto"],
        BeforeValidator(parse_metrics_port),
        Field(
            description="HTTP port of /metrics for Prometheus; 0 for none; auto for a free port, "
            "which --announce-dir tells"
        ),
    ] = 9090
