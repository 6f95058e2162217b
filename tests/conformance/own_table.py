"""The table of docs/own-networks.md: what was seen of networks that users write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-networks.md"

_ROW = re.compile(r"\| `(?P<name>[^`]+)` \| (\d+) \| (\d+) \| (\d+) \|")
_STYLE = "style/"


@dataclass(frozen=True)
class Compared:
    """One network whose modules were compared."""

    name: str
    modules: int
    called: int
    equal: int

    @property
    def row(self) -> str:
        """Its line in the table."""
        shown = self.name.removeprefix(_STYLE)
        return f"| `{shown}` | {self.modules} | {self.called} | {self.equal} |"


def add_to_table(compared: Compared) -> None:
    """Add a network's row to the page, or replace it."""
    text = PAGE.read_text()
    section = "styles" if compared.name.startswith(_STYLE) else "architectures"
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    before, _, rest = text.partition(begin)
    table, _, after = rest.partition(end)
    rows = {found["name"]: line for line in table.splitlines() if (found := _ROW.match(line))}
    rows[compared.name.removeprefix(_STYLE)] = compared.row
    head = ["| network | modules | called | equal to a hook's |", "|---|---|---|---|"]
    table = "".join(f"{line}\n" for line in [*head, *(rows[name] for name in sorted(rows))])
    PAGE.write_text(_with_versions(f"{before}{begin}{table}{end}{after}"))


def _with_versions(text: str) -> str:
    found = (f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "transformers"))
    return re.sub(r"(?<=<!-- versions -->).*", ", ".join(found) + ".", text)
