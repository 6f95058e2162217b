"""Folders of images on the server, and who may read each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidRequestError, PermissionDeniedError, PreconditionError
from .person import Person
from .scopes import Scope


@dataclass(frozen=True)
class ImageRoot:
    """A folder of images; `readers` are names and `@groups` of people, none of them all people."""

    path: Path
    readers: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """What the names of its images begin with if there are several roots."""
        return self.path.name

    def admits(self, person: Person | None) -> bool:
        """Return whether a person may read the folder."""
        if not self.readers:
            return True
        if person is None or not person.is_named:
            return False
        own = {person.name, f"@{person.group}"} if person.group else {person.name}
        return bool(own & self.readers) or Scope.ADMIN in person.scopes


@dataclass(frozen=True)
class Place:
    """A name below a root: the folder, the rest of it, and what names of the root begin with."""

    root: Path
    rest: str
    prefix: str = ""


@dataclass(frozen=True)
class ImageRoots:
    """The image roots of a server. With several, names of images begin with a folder's name."""

    roots: tuple[ImageRoot, ...] = ()

    def find(self, name: str, person: Person | None) -> Place | None:
        """Return where a name leads that a person gave; None if that is no root of this person.

        Raises InvalidRequestError if there are no roots, PermissionDeniedError if the person may
        read none.
        """
        allowed = self._allowed(person)
        if len(self.roots) == 1:
            return Place(allowed[0].path.resolve(), name)
        label, _, rest = name.partition("/")
        found = [root for root in allowed if root.label == label]
        return Place(found[0].path.resolve(), rest, f"{label}/") if found else None

    def places(self, folder: str, person: Person | None) -> list[Place]:
        """Return where the images of a folder are: "" is all roots that the person may read."""
        if not folder.strip("./") and len(self.roots) > 1:
            allowed = sorted(self._allowed(person), key=lambda root: root.label)
            return [Place(root.path.resolve(), "", f"{root.label}/") for root in allowed]
        found = self.find(folder, person)
        return [] if found is None else [found]

    def _allowed(self, person: Person | None) -> list[ImageRoot]:
        if not self.roots:
            raise InvalidRequestError(
                "this server has no image root; its operator can set one with --image-root",
                field="server_path",
            )
        allowed = [root for root in self.roots if root.admits(person)]
        if not allowed:
            name = "you" if person is None else person.name
            raise PermissionDeniedError(
                f"this server has no image root that {name} may read; its operator can add the "
                "name, with --image-root FOLDER=NAME",
                field="server_path",
            )
        return allowed


def parse_image_roots(texts: Sequence[str]) -> ImageRoots:
    """Return the roots of `FOLDER` or `FOLDER=NAME:NAME:@GROUP` each.

    Raises PreconditionError if two folders have the same name.
    """
    roots = tuple(map(_parse, texts))
    twice = [label for label, count in Counter(one.label for one in roots).items() if count > 1]
    if twice:
        raise PreconditionError(
            f"--image-root must be folders of different names, got {twice[0]!r} twice: the names "
            "of their images begin with it"
        )
    return ImageRoots(roots)


def _parse(text: str) -> ImageRoot:
    path, equals, names = text.rpartition("=")
    # A folder may have an equals sign in its name; names of people have no slash.
    if not equals or "/" in names or Path(text).expanduser().is_dir():
        return ImageRoot(Path(text).expanduser())
    readers = frozenset(one for one in names.split(":") if one)
    if not readers or not path:
        raise PreconditionError(
            f"--image-root must be FOLDER or FOLDER=NAME:NAME:@GROUP, got {text!r}"
        )
    return ImageRoot(Path(path).expanduser(), readers)
