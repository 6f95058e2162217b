"""Whose something on a server is: an upload, a PCA, or a cached image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ownership:
    """Whose something is, as far as the server tells you.

    Attributes:
        owners: Names of the owners: yours, and who shares it with you; an admin is told all.
        shared: Whether it is shared; of what is yours, whether you share it.

    """

    owners: tuple[str, ...]
    shared: bool

    def __str__(self) -> str:
        return f"{', '.join(self.owners)}{' (shared)' if self.shared else ''}"


@dataclass(frozen=True)
class Sharing:
    """Whom something is shared with.

    Attributes:
        kinds: What it is: `upload`, `PCA` or `image`.
        shared_with: `*`: everybody whom the server lets in; `@NAME`: a group, several
            separated by commas; empty: nobody.

    """

    kinds: tuple[str, ...]
    shared_with: str

    def __str__(self) -> str:
        if not self.shared_with:
            whom = "nobody"
        elif self.shared_with == "*":
            whom = "everybody whom the server lets in"
        else:
            names = [one.removeprefix("@") for one in self.shared_with.split(",")]
            whom = f"the group{'s'[: len(names) > 1]} {' and '.join(names)}"
        return f"The {' and '.join(self.kinds)} is shared with {whom}"
