"""The base of columns whose process is a client of the server."""

from __future__ import annotations

from thingsvision_client import Client

from .worker import Column


class ClientColumn(Column):
    """A column with a connection to the server."""

    _connection: Client | None = None

    def connect(self, address: str) -> Client:
        """Close any earlier connection, and connect to a server."""
        self.close()
        self._connection = Client(address)
        return self._connection

    @property
    def client(self) -> Client:
        """The connected client."""
        assert self._connection is not None
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
