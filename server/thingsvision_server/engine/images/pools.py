"""Names the folders of cached images: what each person has there, and who may see it.

What a person sent lies in a folder of that person's, by SHA-256; so a file's place says whose it
is, and an image of several people is one file with a link in the folder of each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from ...access.owners import EVERYBODY, OPERATOR, is_shared_with, sees_all
from ...access.person import Person

_LONGEST_NAME = 200
_PERSON = "@"
_SHARED = ":"


@dataclass(frozen=True)
class Pool:
    """Images of one owner that the same people may see.

    Attributes:
        owner: A person's name, as of `owner_of`; empty for the operator.
        shared_with: Who else sees them: `*` for everybody, `@group`, empty for nobody.

    """

    owner: str = ""
    shared_with: str = EVERYBODY

    @property
    def owner_name(self) -> str:
        """The owner's name, as people are told it."""
        return self.owner or OPERATOR

    def is_of(self, person: Person) -> bool:
        """Return whether a person owns what is here; who has no name stands for the operator."""
        return self.owner == (owner_of(person.name) if person.is_named else "")

    def may_see(self, person: Person) -> bool:
        """Return whether a person may know what is here: an admin, the owner, or who is shared."""
        return self.is_of(person) or sees_all(person) or is_shared_with(self.shared_with, person)

    @property
    def folder(self) -> str:
        """The name of its folder; empty for the operator's, which is the folder of all images."""
        if not self.owner:
            return ""
        name = quote(self.owner, safe="@+")
        shared = f"{_SHARED}{quote(self.shared_with, safe='@+')}" if self.shared_with else ""
        return f"{_PERSON}{name}{shared}"


def owner_of(name: str) -> str:
    """Return a person's name; in the place of a long one, such as a certificate's, its SHA-256."""
    if len(quote(name, safe="@+")) <= _LONGEST_NAME:
        return name
    return f"~{hashlib.sha256(name.encode()).hexdigest()}"


def pool_of(person: Person) -> Pool:
    """Return where the images go that a person sends."""
    return Pool(owner_of(person.name), "") if person.is_named else Pool()


def shared_pool(owner: str, group: str = "") -> Pool:
    """Return where a person's images go that are shared: with the person's group, or with all."""
    return Pool(owner_of(owner), f"@{group}" if group else EVERYBODY)


def find_pools(folder: Path) -> list[Pool]:
    """Return the pools that have a folder, the operator's first."""
    names = sorted(path.name for path in folder.glob(f"{_PERSON}*"))
    return [Pool(), *map(parse_pool, names)]


def parse_pool(name: str) -> Pool:
    """Return the pool of a folder's name."""
    if not name:
        return Pool()
    owner, _, shared_with = name[len(_PERSON) :].partition(_SHARED)
    return Pool(unquote(owner), unquote(shared_with))
