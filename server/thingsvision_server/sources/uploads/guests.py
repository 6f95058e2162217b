"""Asks the guests of uploaded files: what they are, and which tensors they contain."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...backends.children.channel import Message, open_memory
from ...backends.children.guests import Guest, GuestRuntime
from ...backends.children.replies import ChildFault, raise_error
from ...backends.children.template_process import Template
from ..digests import is_sha256
from ..weights.mapped_tensors import MappedTensors, TableError
from .formats import FORMATS


def guest_of(
    path: Path, called: str, guests: GuestRuntime, template: Callable[[], Template] | None = None
) -> Guest:
    """Return the guest of a file.

    All owners of an upload share its guest, but not the names that they gave it, so it has the
    model's name.
    """
    name = f"own/{path.name}" if is_sha256(path.name) else called
    return guests.guest(path, name, template)


def guest_of_weights(
    path: Path, guests: GuestRuntime, template: Callable[[], Template] | None = None
) -> Guest:
    """Return the guest of a file of weights for a known architecture."""
    return guests.guest(path, f"the weights sha256:{path.name}", template, is_program=False)


def check_upload(path: Path, called: str, guests: GuestRuntime) -> str:
    """Return the format of an uploaded file; raise InvalidWeightsError if it can't be used.

    The file is read in a guest, whatever it is.
    """
    guest = guest_of(path, called, guests)
    reply = guest.request("check", guest.check_limits, path=str(path), called=called)
    if reply["format"] not in FORMATS:
        raise ChildFault(f"the format in its reply is unknown: {reply['format']!r}")
    return str(reply["format"])


class UploadedTensors:
    """The tensors of an uploaded file, which its guest reads once. Used by one thread."""

    def __init__(
        self, path: Path, called: str, guests: GuestRuntime, *, may_be_keras: bool = False
    ) -> None:
        self._path, self._guest = path, guest_of_weights(path, guests)
        self._name = uuid.uuid4().hex
        self._file: Message = {
            "path": str(path),
            "called": called,
            "may_be_keras": may_be_keras,
            "table": self._name,
        }
        self._memory: int | None = None
        self._mapped: MappedTensors | None = None

    def checkpoint(self) -> Mapping[str, Any]:
        """Return all dicts and tensors of the file, in memory that nobody else has.

        Raises InvalidWeightsError if the file can't be read.
        """
        try:
            self._mapped = self._mapped or MappedTensors(self._path, *self._ask())
            return self._mapped.checkpoint()
        except TableError as error:
            raise ChildFault(str(error)) from error

    def _ask(self) -> tuple[Message, int | None]:
        """Return the table of tensors, and memory with the values that are not in the file."""
        guest = self._guest
        limits = guest.check_limits
        with guest.keeper.use():
            table = guest.request("read", limits, **self._file)
            size = table.get("memory_bytes")
            if not isinstance(size, int) or not 0 <= size <= limits.memory_bytes:
                raise ChildFault(f"the size of memory in its reply is {size!r}")
            if size:
                self._memory = open_memory(size)
                with guest.keeper.use() as child:
                    reply = child.run(
                        "fill", descriptors=(self._memory,), limits=limits, table=self._name
                    )
                raise_error(reply)
        return table, self._memory

    def __del__(self) -> None:
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None
