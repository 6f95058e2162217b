"""Counts the memory of the processes that this server's children are forked from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .template_process import Template


class TemplateMemory:
    """The templates that one server uses. Threads may share it."""

    def __init__(self, templates: Sequence[Callable[[], Template | None]]) -> None:
        self._templates = templates

    def _used(self) -> list[Template]:
        found = (find() for find in self._templates)
        return [one for one in found if one is not None]

    @property
    def used_bytes(self) -> int:
        """The memory that they take now."""
        return sum(one.own_bytes for one in self._used())

    @property
    def unused_bytes(self) -> int:
        """The memory of those without children, which `end_unused` frees."""
        return sum(one.own_bytes for one in self._used() if one.is_unused)

    def end_unused(self) -> None:
        """End those without children; the next child of each starts it again."""
        for one in self._used():
            one.end_unused()
