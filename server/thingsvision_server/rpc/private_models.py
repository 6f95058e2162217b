"""Leaves models of others' uploads out of what a person is told about a server's memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..access.owners import Ownership, sees_all
from ..access.person import Person
from ..errors import (
    ExhaustedError,
    LeaseLostError,
    ModelInUseError,
    ModelTooLargeError,
    NotResidentError,
    ThingsvisionError,
)

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_WORD = re.compile(r"[^\s,;()]+")

_HIDDEN = "another's model"

_NAMING = (ExhaustedError, LeaseLostError, ModelInUseError, ModelTooLargeError, NotResidentError)
"""Errors that name models in memory. Others name what the caller sent, which stays as it is: a
digest that is hidden only if somebody has it would tell that somebody has it."""

_WAITING = (pb.ExtractResponse, pb.ComputeRDMResponse, pb.FitPCAResponse)
"""Replies of streams that tell what a request waits for."""


class Uploads(Protocol):
    """Knows whose uploads are."""

    def ownership(self, sha256: str, person: Person) -> Sequence[Ownership]:
        """Return the records of owners that a person may see; empty if there is no such file."""
        ...


class PrivateModels:
    """Takes the names of models that a person may not know out of replies and errors."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def hide_in_reply(self, reply: Any, person: Person) -> None:
        """Change what a reply tells of other models in memory."""
        told: Any = None
        if isinstance(reply, _WAITING):
            told = reply.waiting if reply.HasField("waiting") else None
        elif isinstance(reply, pb.LoadModelResponse):
            told = reply
        elif isinstance(reply, pb.GetResidencyResponse) and not sees_all(person):
            await asyncio.to_thread(_hide_models, reply, self._may_see(person))
        if told is not None and told.reason:
            told.reason = await self._hide(told.reason, person)

    async def hide_in_error(self, error: ThingsvisionError, person: Person) -> ThingsvisionError:
        """Return an error that names no model in memory which the person may not know."""
        sentence = await self._hide(str(error), person) if isinstance(error, _NAMING) else ""
        if sentence in ("", str(error)):
            return error
        return type(error)(
            sentence, field=error.field, subject=error.subject, retry_seconds=error.retry_seconds
        )

    async def _hide(self, text: str, person: Person) -> str:
        if sees_all(person) or not _DIGEST.search(text):
            return text
        return await asyncio.to_thread(_hide_names, text, self._may_see(person))

    def _may_see(self, person: Person) -> Callable[[str], bool]:
        def may_see(sha256: str) -> bool:
            try:
                return bool(self._uploads.ownership(sha256, person))
            except OSError:  # a disk that fails must not change how a call ends
                return False

        return may_see


def _hide_models(reply: pb.GetResidencyResponse, may_see: Callable[[str], bool]) -> None:
    """Remove models whose uploads a person may not see, and their names from sentences.

    The memory that they use still counts in the figures of the devices.
    """
    texts = [one.model_id for one in reply.models] + [one.model_id for one in reply.waiting]
    hidden = {sha256 for sha256 in _DIGEST.findall("\n".join(texts)) if not may_see(sha256)}
    models = [one for one in reply.models if hidden.isdisjoint(_DIGEST.findall(one.model_id))]
    waiting = [one for one in reply.waiting if hidden.isdisjoint(_DIGEST.findall(one.model_id))]
    for one in waiting:
        one.reason = _hide_names(one.reason, may_see)
    kept = pb.GetResidencyResponse(models=models, waiting=waiting)
    reply.ClearField("models")
    reply.ClearField("waiting")
    reply.MergeFrom(kept)


def _hide_names(text: str, may_see: Callable[[str], bool]) -> str:
    """Return a sentence with other words for the models that a person may not know."""
    hidden = {sha256 for sha256 in _DIGEST.findall(text) if not may_see(sha256)}

    def shown(word: re.Match[str]) -> str:
        return word[0] if hidden.isdisjoint(_DIGEST.findall(word[0])) else _HIDDEN

    return _WORD.sub(shown, text)
