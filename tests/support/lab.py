"""A lab: its certificate authority, the people whom it knows, and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import trustme

from thingsvision_server.access.register import Register, TokenGrant
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens import digest_of, new_token
from thingsvision_server.access.tokens_file import change_register

_NOW = datetime.now(timezone.utc)
PAST, FUTURE = _NOW - timedelta(days=1), _NOW + timedelta(days=1)


@dataclass(frozen=True)
class Lab:
    """A folder with the files of a lab's authority, its server, and its tokens."""

    folder: Path
    authority: trustme.CA

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def tokens(self) -> Path:
        """The tokens file."""
        return self.folder / "tokens.json"

    @property
    def server_files(self) -> dict[str, Path]:
        """The settings of a server with this lab's tokens and TLS."""
        cert, key = self.folder / "server.pem", self.folder / "server.key"
        return {"tokens": self.tokens, "tls_cert": cert, "tls_key": key}

    def issue_server(self, *names: str, expires: datetime | None = None) -> None:
        """Write the certificate of a server, by default of this machine's."""
        issued = self.authority.issue_cert(
            *(names or ("localhost", "127.0.0.1")), not_after=expires
        )
        write_key(self.folder / "server.key", issued)
        issued.cert_chain_pems[0].write_to_path(self.folder / "server.pem")

    def issue_person(self, name: str, **more: Any) -> tuple[Path, Path]:
        """Write a client certificate with `CN=name,O=lab`; return its file and its key's."""
        issued = self.authority.issue_cert(
            f"{name}@lab.example", common_name=name, organization_name="lab", **more
        )
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(cert)
        write_key(key, issued)
        return cert, key

    def add_token(self, name: str, *scopes: Scope, **more: Any) -> str:
        """Add a token to the file, and return it; `more` are fields of its row."""
        token_id, token = new_token()
        row = TokenGrant(name=name, scopes=scopes, id=token_id, sha256=digest_of(token), **more)
        with change_register(self.tokens) as content:
            rows = (*content[0].tokens, row)
            content[0] = Register.model_validate(dict(content[0]) | {"tokens": rows})
        return token

    def channel(self, address: str) -> grpc.Channel:
        """Return a channel of plain gRPC that trusts the authority."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        return grpc.secure_channel(address, credentials)


def write_key(path: Path, issued: trustme.LeafCert) -> None:
    """Write a private key that nobody else may read."""
    path.touch(0o600)
    issued.private_key_pem.write_to_path(path)


def found_lab(folder: Path) -> Lab:
    """Return a new lab in a folder, with a server's certificate and an empty tokens file."""
    lab = Lab(folder, trustme.CA())
    lab.authority.cert_pem.write_to_path(lab.ca)
    lab.issue_server()
    with change_register(lab.tokens):
        pass
    return lab


def call_outcome(
    channel: grpc.Channel, method: str, content: bytes, metadata: Sequence[tuple[str, str]]
) -> tuple[grpc.StatusCode, str]:
    """Call a method, whatever its kind, with one message; return how the call ended."""
    call = channel.stream_stream(method)(iter([content]), metadata=metadata, timeout=30)
    try:
        next(call, None)
    except grpc.RpcError as error:
        return error.code(), error.details()
    finally:
        call.cancel()
    return grpc.StatusCode.OK, ""


def bearer(*tokens: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that shows tokens."""
    return tuple(("authorization", f"Bearer {token}") for token in tokens)
