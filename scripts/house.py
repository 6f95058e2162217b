"""Draws the house: the floors of the import contracts, with the first sentence of each room.

A room stands above all that it imports. What the contracts say is checked by `scripts/check
floors`, so the picture can't differ from the code.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import tomllib

PROJECT = Path(__file__).resolve().parents[1]
PICTURE = PROJECT / "docs" / "assets" / "house.svg"
PACKAGES = {
    "thingsvision_client": PROJECT / "client" / "thingsvision_client",
    "thingsvision_server": PROJECT / "server" / "thingsvision_server",
    "thingsvision_proto": PROJECT / "proto" / "thingsvision_proto",
}

_WIDTH, _TOWER, _MARGIN = 1240, 590, 20
_FLOOR, _GAP, _HEAD = 76, 8, 54
_ASIDE = 128
"""Width of the column of rooms that stand beside the server's floors."""
_LETTER = 5.6
"""Average width of a caption's letter, pixels."""
_LINE = 13
_WIDE = 280
"""Boxes of this width name the rooms in them, too."""
_COLORS = {"thingsvision_client": "#e8f0fa", "thingsvision_server": "#fbeee3"}
_GROUND = "#e9f3e6"


@dataclass(frozen=True)
class Box:
    """A room in the picture, pixels from the upper left."""

    name: str
    says: str
    x: float
    y: float
    width: float
    height: float
    color: str
    inside: str = ""
    """Names of the rooms in it."""

    def svg(self) -> Iterator[str]:
        """Yield its rectangle, its name, and as much of its sentence as fits."""
        yield (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}" '
            f'rx="4" fill="{self.color}" stroke="#8a8a8a" stroke-width="0.8"/>'
        )
        yield _text(self.name, self.x + 8, self.y + 18, size=13, weight="bold")
        for number, line in enumerate(self._lines()):
            yield _text(line, self.x + 8, self.y + 34 + number * _LINE, size=10.5, color="#444")
        if self.width >= _WIDE and self.inside:
            (line,) = self._wrapped(self.inside, 1)
            yield _text(line, self.x + 8, self.y + self.height - 9, size=10.5, color="#8a5a2b")

    def _lines(self) -> list[str]:
        most = int((self.height - 26) / _LINE)
        return self._wrapped(self.says, most - 1 if self.width >= _WIDE and self.inside else most)

    def _wrapped(self, words: str, most: int) -> list[str]:
        letters = max(int((self.width - 14) / _LETTER), 8)
        return wrap(words, letters, max_lines=most, placeholder=" …", break_long_words=False)


def main() -> None:
    """Write the picture; with --check, end with an error if it is not up to date."""
    drawn = draw()
    if "--check" in sys.argv[1:]:
        is_current = PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == drawn
        sys.exit(None if is_current else f"{PICTURE.name} is out of date: run scripts/house")
    PICTURE.write_text(drawn, encoding="utf-8")


def draw() -> str:
    """Return the picture, SVG."""
    floors = {package: floors_of(package) for package in _COLORS}
    height = max(map(len, floors.values())) * (_FLOOR + _GAP)
    boxes: list[Box] = []
    for number, package in enumerate(_COLORS):
        left = _MARGIN + number * (_TOWER + _MARGIN)
        boxes += _tower(package, floors[package], left, _HEAD + height)
    ground = _HEAD + height + _GAP
    proto = PACKAGES["thingsvision_proto"]
    says = sentence(proto / "__init__.py")
    boxes.append(
        Box(
            "thingsvision_proto",
            says,
            x=_MARGIN,
            y=ground,
            width=_WIDTH - 2 * _MARGIN,
            height=44,
            color=_GROUND,
        )
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {ground + 64}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">',
        "<title>The floors of client and server: imports go down only</title>",
        f'<rect width="{_WIDTH}" height="{ground + 64}" fill="#ffffff"/>',
    ]
    for number, package in enumerate(_COLORS):
        left = _MARGIN + number * (_TOWER + _MARGIN)
        lines.append(_text(package, left, 34, size=18, weight="bold"))
    lines += [line for box in boxes for line in box.svg()]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _tower(package: str, floors: Sequence[Sequence[str]], left: float, bottom: float) -> list[Box]:
    """Return the boxes of a package, the lowest floor on the ground, and rooms that stand aside."""
    aside = rooms_aside(package)
    width = _TOWER - (_ASIDE + _GAP if aside else 0)
    boxes = []
    for number, rooms in enumerate(reversed(floors)):
        top = bottom - (number + 1) * (_FLOOR + _GAP) + _GAP
        share = (width + _GAP) / len(rooms)
        for place, room in enumerate(rooms):
            x = left + place * share
            boxes.append(_box(package, room, x=x, y=top, width=share - _GAP))
    for number, room in enumerate(reversed(aside)):
        top = bottom - (number + 1) * (_FLOOR + _GAP) + _GAP
        boxes.append(_box(package, room, x=left + width + _GAP, y=top, width=_ASIDE))
    return boxes


def _box(package: str, room: str, *, x: float, y: float, width: float) -> Box:
    return Box(
        room,
        sentence(_file(PACKAGES[package], room)),
        x=x,
        y=y,
        width=width,
        height=_FLOOR,
        color=_COLORS[package],
        inside=" · ".join(rooms_inside(PACKAGES[package] / room)),
    )


def rooms_inside(folder: Path) -> list[str]:
    """Return the names of modules and packages in a folder, packages first; none for a file."""
    if not folder.is_dir():
        return []
    packages = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    return packages + modules


def floors_of(package: str) -> list[list[str]]:
    """Return the rooms of each floor of a package, the highest first."""
    layers = _contract(package)["layers"]
    return [[room.strip() for room in layer.replace(":", "|").split("|")] for layer in layers]


def rooms_aside(package: str) -> list[str]:
    """Return the rooms that the contract leaves out of the floors."""
    return list(_contract(package).get("exhaustive_ignores", []))


def _contract(package: str) -> Mapping[str, Any]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return next(one for one in contracts if one.get("containers") == [package])


def sentence(file: Path) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".")


def _file(folder: Path, room: str) -> Path:
    package = folder / room / "__init__.py"
    return package if package.is_file() else folder / f"{room}.py"


def _text(
    words: str, x: float, y: float, *, size: float, weight: str = "normal", color: str = "#111"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}" fill="{color}">'
        f"{escape(words)}</text>"
    )


if __name__ == "__main__":
    main()
