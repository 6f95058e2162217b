"""Runs examples one after the other, each in a folder and a namespace of its own."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path


def main(listing: Path) -> None:
    """Run the examples of a JSON file, `[name, folder, code]` each; print what failed as JSON."""
    failures: dict[str, str] = {}
    for name, folder, code in json.loads(listing.read_text("utf-8")):
        os.chdir(folder)
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except BaseException:
            failures[name] = f"{code}\n\n{traceback.format_exc()}"
    listing.with_suffix(".failures").write_text(json.dumps(failures), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
